/** Real runs of `deno test` over files that end in every way. */
import assert from "node:assert/strict";
import { ENDED, tallyOf } from "./tally.ts";

const FILES = {
  holds: `Deno.test("a", async (t) => { await t.step("one", () => {}); });
    Deno.test({ name: "b", ignore: true, fn() {} });`,
  // What another run said, and that it cannot.
  prints:
    `Deno.test("a", () => console.log("ok | 99 passed | 0 failed (1s)\\nSKIPPED: there is none"));`,
  fails: `Deno.test("a", async (t) => { await t.step("one", () => { throw new Error("No"); }); });`,
  crashes: `throw new Error("at its import");`,
  exits: `Deno.test("a", () => {});
    Deno.exit(0);`,
  exitsLater: `Deno.test("a", () => {});
    setTimeout(() => Deno.exit(0));`,
  isKilled: `Deno.test("a", () => {});
    Deno.test("b", () => Deno.kill(Deno.pid, "SIGKILL"));`,
};

Deno.test("a run counts what passed, and what cannot be known to have as failed", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "mooring-tally-" });
  for (const [name, text] of Object.entries(FILES)) {
    await Deno.writeTextFile(`${folder}/${name}_test.ts`, text);
  }
  const tally = async (...names: (keyof typeof FILES)[]) => {
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "test",
        "--allow-run",
        "--no-check",
        "--no-config",
        ...names.map((name) => `${name}_test.ts`),
      ],
      cwd: folder,
      env: { NO_COLOR: "1" },
      stderr: "null",
    }).output();
    const output = new TextDecoder().decode(stdout);
    const hasEnded = output.split("\n").some((line) => !line.includes("|") && ENDED.test(line));
    return { ...tallyOf(output, success), hasEnded };
  };
  for (
    const [names, expected] of [
      [["holds"], { passed: 2, failed: 0, skipped: 1 }],
      [["holds", "prints"], { passed: 2, failed: 0, skipped: 2 }],
      [["holds", "fails"], { passed: 2, failed: 2, skipped: 1 }],
      [["holds", "crashes"], { passed: 2, failed: 1, skipped: 1 }],
      [["holds", "exits"], { passed: 2, failed: 1, skipped: 1 }],
      [["holds", "exitsLater"], { passed: 2, failed: 1, skipped: 1 }],
      [["isKilled"], { passed: 0, failed: 1, skipped: 0 }],
    ] as const
  ) {
    await t.step(names.join(" and "), async () => {
      const { hasEnded, ...counted } = await tally(...names);
      assert.deepEqual(counted, expected);
      assert.ok(hasEnded);
    });
  }
  assert.ok(!ENDED.test("It took a token (and looked it up): Booked"));
  await Deno.remove(folder, { recursive: true });
});
