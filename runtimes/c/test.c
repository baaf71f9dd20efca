#include <math.h>
#include <stdio.h>

int main(int argc, char **argv) {
    (void)argv;
    puts(sqrt(argc) > 0.5 ? "OK" : "no");
    return 0;
}
