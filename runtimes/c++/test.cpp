#include <iostream>
#include <optional>
#include <string>

int main() {
    std::optional<std::string> answer{"OK"};
    if (auto text = answer.value_or("no"); !text.empty()) std::cout << text << std::endl;
}
