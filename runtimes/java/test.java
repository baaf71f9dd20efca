import java.util.stream.Stream;

interface Greeting {
    String text();
}

public class Self implements Greeting {
    public String text() {
        return Stream.of("O", "K").reduce("", String::concat);
    }

    public static void main(String[] args) {
        System.out.println(new Self().text());
    }
}
