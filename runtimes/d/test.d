import std.algorithm, std.array, std.stdio;

void main()
{
    writeln(["K", "O"].sort!"a > b".array.join(""));
}
