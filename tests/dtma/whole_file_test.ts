import assert from "node:assert/strict";
import { writeWhole } from "../../dtma/whole_file.ts";

Deno.test("writeWhole writes one file at once as often as asked, the last one's last", async () => {
  const directory = await Deno.makeTempDir({ prefix: "mooring-test-" });
  try {
    const path = `${directory}/status`;
    const writes = Array.from({ length: 20 }, (_, i) => `${i}: ${"x".repeat(1000 - 50 * i)}`);
    const ended = await Promise.allSettled(
      writes.map((text, i) => writeWhole(path, text, { sync: i % 2 === 0 })),
    );
    assert.deepEqual(ended.filter(({ status }) => status === "rejected"), []);
    assert.equal(await Deno.readTextFile(path), writes.at(-1));
    assert.deepEqual([...Deno.readDirSync(directory)].map(({ name }) => name), ["status"]);
    await assert.rejects(writeWhole(`${directory}/none/status`, ""), Deno.errors.NotFound);
    await Deno.mkdir(`${directory}/none`);
    await writeWhole(`${directory}/none/status`, "after one that failed");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
