const { promises: fs } = require("fs");

(async () => {
    await fs.writeFile("answer", "OK");
    console.log(await fs.readFile("answer", "utf8"));
})();
