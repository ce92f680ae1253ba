import assert from "node:assert/strict";
import { BriefMap } from "../../dtma/brief_map.ts";

Deno.test("BriefMap holds what was not deleted, in the order of adding, however much came and went", () => {
  const map = new BriefMap<number, string>();
  for (let id = 0; id < 5000; id++) {
    map.set(id, `entry ${id}`);
    // Every tenth stays.
    if (id % 10 !== 0) assert.equal(map.delete(id), true);
  }
  assert.equal(map.size, 500);
  assert.equal(map.get(10), "entry 10");
  assert.equal(map.get(11), undefined);
  assert.equal(map.delete(11), false);
  assert.deepEqual([...map.values()].slice(0, 3), ["entry 0", "entry 10", "entry 20"]);
  map.set(10, "another");
  assert.equal(map.size, 500);
  assert.equal(map.get(10), "another");
  map.clear();
  assert.deepEqual([...map.values()], []);
});

/** What is still held of 60,000 entries of 1 KB, 16 at a time, that came after a full collection. */
async function heldMb(made: string): Promise<number> {
  const module = new URL("../../dtma/brief_map.ts", import.meta.url).href;
  const script = `
    import { BriefMap } from "${module}";
    const map = ${made};
    const churn = (from, to) => {
      for (let id = from; id < to; id++) {
        map.set(id, new Array(128).fill(id));
        map.delete(id - 16);
      }
    };
    churn(0, 1000);
    gc();
    const before = Deno.memoryUsage().heapUsed;
    churn(1000, 61000);
    gc({ type: "minor" });
    console.log((Deno.memoryUsage().heapUsed - before) / 1024 / 1024);`;
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--no-lock", "--ext=ts", "--v8-flags=--expose-gc", script],
    stdout: "piped",
    stderr: "inherit",
  }).output();
  assert.ok(success);
  return Number(new TextDecoder().decode(stdout));
}

Deno.test("BriefMap leaves what was deleted to a small collection, as V8's own Map does not", async () => {
  const [brief, own] = [await heldMb("new BriefMap()"), await heldMb("new Map()")];
  assert.ok(brief < 4, `BriefMap held ${brief} MB`);
  // Once this fails V8 has mended it, and BriefMap can go.
  assert.ok(own > 10, `Map held ${own} MB`);
});
