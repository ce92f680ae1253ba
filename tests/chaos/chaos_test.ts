/** The short form of `deno task chaos`: some rounds of faults under load, each of another kind. */
import assert from "node:assert/strict";
import { runChaos, whyNot } from "./harness.ts";

const reason = await whyNot();
if (reason) console.warn(`SKIPPED, chaos: ${reason}`);

Deno.test({
  name: reason
    ? `All comes right under faults (skipped: ${reason})`
    : "All comes right under faults",
  ignore: reason !== null,
  async fn() {
    const seed = Number(Deno.env.get("CHAOS_SEED") ?? 20261123);
    const { failed, violations } = await runChaos({
      seed,
      rounds: 10,
      minutes: 1.3,
      say: (line) => console.log(line),
    });
    assert.deepEqual(violations, []);
    assert.equal(failed, 0);
  },
});
