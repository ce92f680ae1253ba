import assert from "node:assert/strict";
import { giveMemoryBackAtRest } from "../memory_at_rest.ts";
import { residentMb } from "./bench/cpu.ts";
import { eventually } from "./e2e/app.ts";

/** Works for so long, of its own time, leaves much behind that is garbage then, and rests. */
const work = (ms: number) => `
  import { cpuUsage } from "node:process";
  import { giveMemoryBackAtRest } from "${new URL("../memory_at_rest.ts", import.meta.url)}";
  giveMemoryBackAtRest((signal) => console.log("told:", signal), new AbortController().signal);
  globalThis.kept = [];
  const began = cpuUsage();
  do {
    kept = Array.from({ length: 1500 }, () => new Uint8Array(64 * 1024).fill(1));
  } while (cpuUsage(began).user < ${ms} * 1000);
  kept = null;
  console.log("rests");
  setInterval(() => {}, 1_000_000);
`;

for (const [what, ms] of [["much work", 3000], ["little work that took much", 0]] as const) {
  Deno.test(`giveMemoryBackAtRest gives back what ${what} left behind, and has others told`, () =>
    leavesNothingBehind(work(ms)));
}

async function leavesNothingBehind(script: string) {
  await using file = await scriptFile(script);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-config", "--allow-run", "--allow-env", file.path],
    env: { DENO_USR2_MEMORY_TRIM: "1" },
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  try {
    const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    assert.match((await output.read()).value!, /^rests/);
    const leftMb = await residentMb(child.pid);
    assert.match((await output.read()).value!, /^told: SIGUSR2/);
    await eventually(
      "memory is given back",
      async () => await residentMb(child.pid) < leftMb - 80,
    );
    await output.cancel();
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
}

Deno.test("giveMemoryBackAtRest sends no signal to a process that it would end", async () => {
  assert.equal(Deno.env.get("DENO_USR2_MEMORY_TRIM"), undefined);
  await giveMemoryBackAtRest(() => assert.fail("nobody is told"), new AbortController().signal);
});

async function scriptFile(text: string) {
  const path = await Deno.makeTempFile({ prefix: "mooring-test-", suffix: ".ts" });
  await Deno.writeTextFile(path, text);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path) };
}
