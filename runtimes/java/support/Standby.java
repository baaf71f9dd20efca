// Stands by: started before any program is there, it waits on standard input for one job, writes its files, compiles them as javac would,
// and runs the class as java would. While it waits and the machine has nothing else to do, it warms the compiler. The conversation is written
// down in crates/backends/src/local/standby.rs. With an argument it is no standby: it does what one does, for an archive of the classes.

package greenroom;

import com.sun.source.util.JavacTask;
import com.sun.source.util.TaskEvent;
import com.sun.source.util.TaskListener;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

public final class Standby {
    // So often the compiler compiles before it is warm enough: a program takes a third of the first's time after one, a fifth after four.
    private static final int ROUNDS = 4;
    // Between two looks whether the machine has nothing else to do, milliseconds.
    private static final int PAUSE = 100;
    // "To be done in the ordinary way."
    private static final int UNUSUAL = 255;

    private static final JavaCompiler COMPILER = ToolProvider.getSystemJavaCompiler();
    // Unbuffered: what comes after our part is the program's.
    private static final InputStream IN = new FileInputStream(FileDescriptor.in);
    private static final OutputStream OUT = new FileOutputStream(FileDescriptor.out);

    public static void main(String[] archive) throws Throwable {
        if (archive.length > 0) {
            sample(() -> false, true);
            use();
            return;
        }
        OUT.write(1);
        Warmer warmer = new Warmer();
        warmer.start();
        DataInputStream from = new DataInputStream(IN);
        int words = first(from);
        warmer.finish();
        List<String> compile = words(from, words);
        List<String> run = words(from, from.readInt());
        files(from);
        String name = run.remove(0);
        if (!compile.isEmpty()) {
            go();
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            int status = COMPILER.run(InputStream.nullInputStream(), said, said, compile.toArray(new String[0]));
            if (status > 2 || status == 0 && entry(name) == null) status = UNUSUAL;
            ByteArrayOutputStream answer = new ByteArrayOutputStream();
            DataOutputStream to = new DataOutputStream(answer);
            to.writeInt(status);
            to.writeInt(said.size());
            said.writeTo(to);
            OUT.write(answer.toByteArray());
        }
        go();
        run(name, run.toArray(new String[0]));
    }

    private static int first(DataInputStream from) throws IOException {
        try {
            return from.readInt();
        } catch (EOFException end) {
            // Nobody will have a job.
            Runtime.getRuntime().halt(0);
            throw end;
        }
    }

    private static List<String> words(DataInputStream from, int left) throws IOException {
        List<String> words = new ArrayList<>();
        for (; left > 0; left--) words.add(new String(from.readNBytes(from.readInt()), "UTF-8"));
        return words;
    }

    private static void files(DataInputStream from) throws IOException {
        for (int left = from.readInt(); left > 0; left--) {
            Path path = Path.of(new String(from.readNBytes(from.readInt()), "UTF-8"));
            boolean executable = from.readByte() != 0;
            if (path.getParent() != null) Files.createDirectories(path.getParent());
            Files.write(path, from.readNBytes(from.readInt()));
            if (executable) Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rwxr-xr-x"));
        }
    }

    private static void go() throws IOException {
        // Nobody has a job any more.
        if (IN.read() < 0) Runtime.getRuntime().halt(0);
    }

    // The method that java would start with; null where java has something to say about it.
    private static Method entry(String name) {
        try {
            Class<?> type = Class.forName(name, false, ClassLoader.getSystemClassLoader());
            Method main = type.getMethod("main", String[].class);
            return Modifier.isStatic(main.getModifiers()) && main.getReturnType() == void.class ? main : null;
        } catch (ReflectiveOperationException | LinkageError unusual) {
            return null;
        }
    }

    private static void run(String name, String[] args) throws Throwable {
        Method main = entry(name);
        if (main == null) {
            System.err.println("Error: Could not find or load main class " + name);
            System.exit(1);
        }
        main.setAccessible(true);
        System.setProperty("java.class.path", ".");
        System.setProperty("sun.java.command", args.length == 0 ? name : name + " " + String.join(" ", args));
        for (String own : List.of("jdk.module.main", "jdk.module.main.class", "jdk.launcher.sourcefile")) System.clearProperty(own);
        // Of a hidden class, whose frames stacks do not show: at the bottom stands the program's main.
        byte[] code;
        try (InputStream in = Standby.class.getResourceAsStream("Standby$Program.class")) {
            code = in.readAllBytes();
        }
        Thread here = Thread.currentThread();
        here.setName("standby");
        MethodHandles.Lookup lookup = MethodHandles.lookup();
        Class<?> hidden = lookup.defineHiddenClass(code, true).lookupClass();
        Thread program = (Thread) hidden
            .getConstructor(ThreadGroup.class, MethodHandle.class, String[].class)
            .newInstance(here.getThreadGroup(), lookup.unreflect(main), args);
        program.setContextClassLoader(ClassLoader.getSystemClassLoader());
        program.start();
        program.join();
        if (hidden.getField("failed").getBoolean(program)) {
            // As java: status 1, when all threads have ended; what there is to say has been said.
            here.setUncaughtExceptionHandler((thread, error) -> {});
            throw new Error();
        }
    }

    public static final class Program extends Thread {
        public volatile boolean failed = true;
        private final MethodHandle main;
        private final String[] args;

        public Program(ThreadGroup group, MethodHandle main, String[] args) {
            super(group, null, "main", 0, true);
            this.main = main;
            this.args = args;
        }

        @Override
        public void run() {
            try {
                main.invokeExact(args);
                failed = false;
            } catch (ExceptionInInitializerError error) {
                trim(error);
                throw error;
            } catch (Throwable error) {
                hide(error);
                throw Program.<RuntimeException>same(error);
            }
        }

        // The error for a lack of memory is made before it is needed, and shows all.
        private static void hide(Throwable error) {
            StackTraceElement[] all = error.getStackTrace();
            int left = all.length;
            while (left > 0 && isOurs(all[left - 1].getClassName())) left--;
            if (left < all.length) error.setStackTrace(java.util.Arrays.copyOf(all, left));
        }

        private static boolean isOurs(String name) {
            return name.startsWith("greenroom.Standby$Program") || name.startsWith("java.lang.invoke.LambdaForm$");
        }

        // The launcher initialises the class from native code: of a failure there, no stack shows how the class came to be initialised.
        private static void trim(Throwable error) {
            StackTraceElement[] stack = error.getStackTrace();
            if (stack.length == 0 || !stack[0].getMethodName().equals("ensureClassInitialized0")) return;
            for (Throwable each = error; each != null; each = each.getCause()) {
                StackTraceElement[] all = each.getStackTrace();
                each.setStackTrace(java.util.Arrays.copyOf(all, Math.max(all.length - stack.length, 0)));
            }
        }

        @SuppressWarnings("unchecked")
        private static <E extends Throwable> E same(Throwable error) throws E {
            throw (E) error;
        }
    }

    // Warms up until there is a job.
    private static final class Warmer extends Thread {
        private volatile boolean isOver;

        Warmer() {
            super("warmer");
            setDaemon(true);
        }

        @Override
        public void run() {
            try {
                for (int round = 0; round < ROUNDS && !isOver; ) {
                    synchronized (this) {
                        if (!isOver) wait(PAUSE);
                    }
                    if (isOver || isBusy()) continue;
                    sample(() -> isOver, false);
                    if (round++ == 0) use();
                    if (round == ROUNDS) System.gc();
                }
            } catch (Exception unusual) {
                // Then it stays as cold as it is.
            }
        }

        // What it is at is given up: nothing of it is left when this returns.
        void finish() throws InterruptedException {
            synchronized (this) {
                isOver = true;
                notify();
            }
            join();
        }

        // More than we and one other want a processor.
        private static boolean isBusy() {
            try {
                String[] load = Files.readString(Path.of("/proc/loadavg")).split("[ /]");
                return Integer.parseInt(load[3]) > 2;
            } catch (IOException | RuntimeException unknown) {
                return false;
            }
        }
    }

    private static final class GivenUp extends RuntimeException {}

    // Compiles what programs are made of, and leaves nothing of it.
    private static void sample(BooleanSupplier isOver, boolean asJavac) throws IOException {
        Path place = Files.createTempDirectory("standby");
        try (StandardJavaFileManager files = COMPILER.getStandardFileManager(null, null, null)) {
            Path source = place.resolve("Sample.java");
            Files.writeString(source, SAMPLE);
            List<String> arguments = List.of("-encoding", "UTF-8", "-proc:none", "-d", place.toString(), "-cp", place.toString());
            if (asJavac) {
                List<String> all = new ArrayList<>(arguments);
                all.add(source.toString());
                ByteArrayOutputStream said = new ByteArrayOutputStream();
                if (COMPILER.run(InputStream.nullInputStream(), said, said, all.toArray(new String[0])) != 0) throw new IOException(said.toString());
            }
            JavacTask task = (JavacTask) COMPILER.getTask(null, files, null, arguments, null, files.getJavaFileObjects(source));
            TaskListener listener = new TaskListener() {
                @Override
                public void started(TaskEvent event) {
                    if (isOver.getAsBoolean()) throw new GivenUp();
                }
            };
            task.addTaskListener(listener);
            task.call();
        } catch (RuntimeException givenUp) {
            // There is a job.
        } finally {
            try (var left = Files.walk(place)) {
                for (Path path : left.sorted((a, b) -> b.compareTo(a)).collect(Collectors.toList())) Files.delete(path);
            }
        }
    }

    // Uses what programs use.
    private static void use() throws IOException {
        Scanner scanner = new Scanner(new ByteArrayInputStream("1 2.5 x\nline\n".getBytes()));
        Map<String, Integer> counts = new HashMap<>();
        counts.merge(scanner.nextInt() + scanner.next() + scanner.next(), 1, Integer::sum);
        String shown = String.format("%d %.2f %s", counts.size(), 2.5, scanner.nextLine() + counts);
        if (shown.isEmpty() || entry("no.such.Class") != null) throw new IOException("not warm");
    }

    private static final String SAMPLE = """
        import java.util.*;
        import java.util.function.*;
        import java.util.stream.*;
        import java.io.*;

        public class Sample {
            interface Shape { double area(); }
            record Circle(double radius) implements Shape { public double area() { return Math.PI * radius * radius; } }
            enum Kind { A, B; Kind other() { return this == A ? B : A; } }
            static class Node<T extends Comparable<T>> {
                T value; Node<T> left, right;
                Node(T value) { this.value = value; }
                void add(T other) {
                    if (other.compareTo(value) < 0) { if (left == null) left = new Node<>(other); else left.add(other); }
                    else { if (right == null) right = new Node<>(other); else right.add(other); }
                }
            }
            static <T> List<T> filter(List<T> list, Predicate<? super T> test) {
                List<T> out = new ArrayList<>();
                for (T item : list) if (test.test(item)) out.add(item);
                return out;
            }
            static long fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
            public static void main(String[] args) throws IOException {
                Scanner in = new Scanner(System.in);
                BufferedReader reader = new BufferedReader(new InputStreamReader(System.in));
                int[][] grid = new int[10][10];
                for (int i = 0; i < grid.length; i++) for (int j = 0; j < grid[i].length; j++) grid[i][j] = i * j;
                Map<String, List<Integer>> map = new TreeMap<>();
                for (String word : "a b c".split(" ")) map.computeIfAbsent(word, k -> new ArrayList<>()).add(word.length());
                String joined = IntStream.range(0, 10).mapToObj(Integer::toString).collect(Collectors.joining(","));
                switch (joined.length()) { case 1: break; default: joined += "x" + 1 + 'c'; }
                var text = switch (Kind.A) { case A -> "first"; case B -> "second"; };
                try { Object o = new Circle(2); if (o instanceof Circle c) System.out.println(c.area() + text); }
                catch (RuntimeException e) { e.printStackTrace(); } finally { System.out.printf("%d %s%n", fib(5), joined); }
                Runnable task = () -> System.out.println(map + filter(List.of(1, 2), x -> x > 1).toString());
                new Thread(task).start();
                StringBuilder builder = new StringBuilder();
                do { builder.append((char) ('a' + builder.length())); } while (builder.length() < 5);
                PriorityQueue<long[]> queue = new PriorityQueue<>((a, b) -> Long.compare(a[0], b[0]));
                queue.add(new long[] {1L, 2L});
                Deque<Integer> deque = new ArrayDeque<>(); deque.push(1);
                new Node<>(5).add(3);
                System.out.println(builder.reverse() + " " + Arrays.toString(grid[1]) + queue.poll()[1] + deque.pop());
            }
        }
        """;
}
