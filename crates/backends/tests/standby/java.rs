//! What Java shows of how it was started, what its compiler says, and what it does with its program.

use super::Case;

pub(crate) fn cases() -> Vec<Case> {
    let common = [
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    List<int[]> l = new ArrayList<>(); while (true) l.add(new int[1 << 20]);
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    System.out.println(Arrays.toString(args) + new Scanner(System.in).nextLine());
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    new Exception("x").printStackTrace(); throw new IllegalStateException("y", new RuntimeException("z"));
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main { static void f(int n) { if (n == 0) throw new ArithmeticException(); f(n - 1); }
  public static void main(String[] args) throws Exception {
    f(3);
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); System.exit(3);
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); throw new Error("e");
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    new Thread(() -> { try { Thread.sleep(200); } catch (InterruptedException e) { } System.out.println("later"); }).start(); throw new RuntimeException("first");
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    Thread t = new Thread(() -> { throw new RuntimeException("in a thread"); }); t.start(); t.join(); System.out.println("goes on");
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main { static int depth; static void f() { depth++; f(); }
  public static void main(String[] args) throws Exception {
    f();
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    Properties p = System.getProperties(); p.remove("line.separator"); for (String n : new TreeSet<>(p.stringPropertyNames())) if (!n.startsWith("java.vm.") && !n.equals("sun.java.launcher")) System.out.println(n + "=" + p.getProperty(n));
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    System.out.println(new TreeMap<>(System.getenv()) + System.getProperty("user.dir") + new TreeSet<>(Arrays.asList(new File(".").list())) + Arrays.toString(new File("/tmp").list()));
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    System.out.println(Thread.currentThread().getStackTrace().length + " " + StackWalker.getInstance().walk(s -> s.count()));
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    Thread.setDefaultUncaughtExceptionHandler((t, e) -> System.out.println(t.getName() + " " + e)); throw new RuntimeException("handled");
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    System.out.print("no newline"); System.err.print("err"); Runtime.getRuntime().halt(5);
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    int x = "a"; foo();
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    List raw = new ArrayList(); raw.add(1); Thread.currentThread().stop();
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    Object o = Class.forName("Standby");
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main { static int X; static { if (true) throw new IllegalStateException("static");  }
  public static void main(String[] args) throws Exception {
    System.out.println(X);
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    record P(int a, String b) {} var p = new P(1, "\u00e9"); System.out.println(switch (p.a()) { case 1 -> "one " + p; default -> "more"; });
  }
}
"#,
        r#"import java.util.*; import java.io.*;
public class Main {
  public static void main(String[] args) throws Exception {
    PrintStream old = System.out; ByteArrayOutputStream b = new ByteArrayOutputStream(); System.setOut(new PrintStream(b)); System.out.print("hidden"); System.setOut(old); System.out.println(b);
  }
}
"#,
        r#"class Main { public static void main(String... a) { System.out.println("not public"); } }
"#,
        r#"public class Main { public static void main() { } }
"#,
        r#"interface Main { static void main(String[] a) { System.out.println("an interface"); } }
"#,
        r#"package a.b;
public class Main { public static void main(String[] x) { System.out.println(Main.class); throw new RuntimeException(); } }
"#,
    ];
    let case = |source: &'static str| {
        let case = Case::new("Main.java", source).with("data.txt", "data").input(&["a", "b c", ""], "in 1\nin 2\n").within(8000);
        // What the launcher has to say about a class without a proper main, it says itself.
        let unusual = ["void main(String[] a) { } }", "void main() { }"]
            .iter()
            .any(|part| source.contains(part) && !source.contains("import"));
        if unusual { case.cold() } else { case }
    };
    common.into_iter().map(case).collect()
}
