using System;
using System.Linq;

public static class SelfTest
{
    public static void Main(string[] args)
    {
        Console.WriteLine(string.Concat(new[] { "K", "O" }.Reverse()));
    }
}
