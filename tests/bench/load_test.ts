import assert from "node:assert/strict";
import { load } from "./load.ts";

Deno.test("load counts no wrong answer as a call", async () => {
  let n = 0;
  const half = await load({ call: () => Promise.resolve(n++ % 2 === 0) }, 4, 100);
  assert.equal(half.errors, 50);
  assert.ok(half.callsPerS > 0);
  const none = await load({ call: () => Promise.resolve(false) }, 4, 100);
  assert.deepEqual([none.errors, none.callsPerS], [100, 0]);
});
