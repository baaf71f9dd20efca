use super::*;

fn entry(dialect: Dialect, stem: &str, source: &str) -> (String, bool) {
    let entry = find(source, stem, dialect);
    (entry.class, entry.has_entry)
}

#[test]
fn java_starts_with_the_first_class_that_has_a_main() {
    for (source, class, has_entry) in [
        ("public class Main { public static void main(String[] a) {} }", "Main", true),
        ("class A {} class B { static public void main(String... a) {} }", "B", true),
        ("package a.b; final class Main { public static void main(String[] a) {} }", "a.b.Main", true),
        ("package /* x */ a . b ;\nenum E { X; public static void main(final String[] a) {} }", "a.b.E", true),
        ("interface I { static void main(String[] a) {} }", "I", true),
        ("record R(int x) { public static void main(String[] a) {} }", "R", true),
        (
            "@Deprecated @SuppressWarnings(\"class Fake {\") public class Real<T extends Comparable<T>> extends Base implements I { public static synchronized void main(String[] a) {} }",
            "Real",
            true,
        ),
        // What only looks like one.
        ("// class X { public static void main(String[] a) {} }\nclass Y { }", "Y", false),
        (
            "/* class X { static void main( } */ class Y { String s = \"class Z { static void main(\"; char c = '\"'; char d = '\\''; char b = '{'; }",
            "Y",
            false,
        ),
        ("class Y { String t = \"\"\"\n  class Z { static void main(\\\"\"\" } \"\"\"; }", "Y", false),
        ("class Y { void main(String[] a) {} }", "Y", false),
        ("class Y { static int main(String[] a) { return 1; } }", "Y", false),
        ("class Y { static void f() { main(null); } }", "Y", false),
        (
            "class Y { static class Inner { public static void main(String[] a) {} } } class Z { public static void main(String[] a) {} }",
            "Z",
            true,
        ),
        ("class Y { Class<?> c = Y.class; static { class Local { } } public static void main(String[] a) { } }", "Y", true),
        ("class A {} public class B {}", "B", false),
        ("", "file0", false),
        ("import java.util.*;\nvoid main() {}", "file0", false),
    ] {
        assert_eq!(entry(Dialect::Java, "file0", source), (class.to_owned(), has_entry), "{source}");
    }
}

#[test]
fn a_java_file_is_called_after_its_public_class() {
    let main = "public static void main(String[] a) {}";
    for (source, named, stem) in [
        ("public class Solution {}".to_owned(), true, Some("Solution")),
        (format!("class A {{ {main} }} public interface B {{}}"), true, Some("B")),
        (format!("class A {{}} class B {{ {main} }}"), true, None),
        (format!("class A {{}} class B {{ {main} }}"), false, Some("B")),
        ("class A {} class B {}".to_owned(), false, Some("A")),
        ("int x;".to_owned(), false, Some("Main")),
        ("package p;".to_owned(), true, None),
        ("class A { public static class B {} }".to_owned(), true, None),
    ] {
        assert_eq!(java_file_stem(&source, named).as_deref(), stem, "{source}");
    }
}

#[test]
fn kotlin_starts_with_the_class_of_the_file_or_an_object() {
    for (stem, source, class, has_entry) in [
        ("main", "fun main() {}", "MainKt", true),
        ("main", "fun main(args: Array<String>) = println(args)", "MainKt", true),
        ("my-app", "suspend fun main() {}", "My_appKt", true),
        ("1", "fun main() {}", "_1Kt", true),
        ("main", "package a.b\n\nimport x.y\n\nfun main() {}", "a.b.MainKt", true),
        ("main", "@file:JvmName(\"App\")\npackage a\nfun main() {}", "a.App", true),
        ("main", "object App { @JvmStatic fun main(args: Array<String>) {} }", "App", true),
        ("main", "class App { companion object { @JvmStatic fun main(args: Array<String>) {} } }", "App", true),
        ("main", "class App { companion object Named { @JvmStatic fun main(a: Array<String>) {} } }", "App", true),
        ("main", "class App { object Inner { @JvmStatic fun main(a: Array<String>) {} } }", "App$Inner", true),
        (
            "main",
            "val s = \"${if (x) \"}\" else \"{\"} fun main(\"\n/* /* nested */ fun main() */\nfun other() {}",
            "MainKt",
            false,
        ),
        ("main", "val s = \"\"\"raw \\\"\"\"\nfun main() {}", "MainKt", true),
        ("main", "class `odd name`\nfun `main`() {}", "MainKt", true),
        ("main", "class Point(val x: Int)\nfun main() { val c = Point::class }", "MainKt", true),
        ("util", "fun helper() {}", "UtilKt", false),
    ] {
        assert_eq!(entry(Dialect::Kotlin, stem, source), (class.to_owned(), has_entry), "{source}");
    }
}

#[test]
fn scala_starts_with_the_object_that_is_an_app_or_has_a_main() {
    for (source, class, has_entry) in [
        ("object Main extends App { println(1) }", "Main", true),
        ("object Main extends Base with App { println(1) }", "Main", true),
        ("class Main\nobject Other { def main(args: Array[String]): Unit = {} }", "Other", true),
        ("package a.b\nobject Main { def main(args: Array[String]) { } }", "a.b.Main", true),
        ("object Helper { def x = 1 }\nobject Main extends App", "Main", true),
        ("class App\nobject Main { val s = 'symbol; val c = '\"'; def f = new App }", "Main", false),
        ("object Main { val s = s\"${\"}\"} object X extends App\" }", "Main", false),
        ("println(1)", "file0", false),
    ] {
        assert_eq!(entry(Dialect::Scala, "file0", source), (class.to_owned(), has_entry), "{source}");
    }
}

#[test]
fn a_groovy_file_is_a_script_unless_a_class_has_a_main() {
    for (source, class) in [
        ("println 'class X { static void main(args) {} }'", "script"),
        ("class Helper { int x }\nprintln new Helper().x", "script"),
        ("class App { static void main(String[] args) { } }", "App"),
        ("class App { static main(args) { } }", "App"),
        ("package a.b\nprintln \"${x('\"')}\"", "a.b.script"),
        ("#!/usr/bin/env groovy\nprintln 1", "script"),
    ] {
        assert_eq!(entry(Dialect::Groovy, "script", source), (class.to_owned(), true), "{source}");
    }
}

/// Sources come from strangers: whatever they are, the scan ends.
#[test]
fn broken_sources_are_scanned_to_their_end() {
    for source in [
        "\"", "'", "`", "/*", "/* /*", "\"\"\"", "\"\\", "'\\", "${", "\"${", "\"${\"${", "}}}}{{{", "class", "package", "é'é",
        "'\\é", "\"\"\"\"\"", "@file:JvmName(", "object object {", "companion object {",
    ] {
        for dialect in [Dialect::Java, Dialect::Kotlin, Dialect::Scala, Dialect::Groovy] {
            find(source, "x", dialect);
            find(&source.repeat(3), "x", dialect);
        }
    }
}

/// Each of these took the square of its length, or the stack, before there were bounds.
#[test]
fn hostile_sources_cost_no_more_than_their_length() {
    for piece in ["\"${", "App ", "object a{", "class a{", "'\\", "main(", "/*", "`", "@file:JvmName(", "fun main("] {
        let source = piece.repeat(50_000);
        for dialect in [Dialect::Java, Dialect::Kotlin, Dialect::Scala, Dialect::Groovy] {
            assert!(find(&source, "x", dialect).class.len() < 1000);
        }
    }
}
