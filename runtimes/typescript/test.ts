import { join } from "path";

interface Greeting {
    readonly parts: string[];
}

const greeting: Greeting = { parts: ["O", "K"] };
process.stdout.write(join("/", greeting.parts.join("")).slice(1) + "\n");
