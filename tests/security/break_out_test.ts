import assert from "node:assert/strict";
import { engineTest } from "../dtma/engine.ts";
import { breakOut, permitted, tableOf, WAYS } from "./break_out.ts";

/** What the policy cannot take away: there is no seccomp rule for where a program's text comes from. */
const MAY_SUCCEED = ["run a file in a memfd"];

engineTest("No probe breaks out of a container under the policy", async (toolbox) => {
  const outcomes = await breakOut(toolbox);
  console.log(tableOf(outcomes));
  for (const way of WAYS) {
    const tried = outcomes.get(way)!;
    assert.ok(tried.length >= 45, `${tried.length} probes`);
    assert.equal(new Set(tried.map(({ name }) => name)).size, tried.length);
  }
  for (const way of ["policy, no network", "policy, allow list"] as const) {
    const through = permitted(outcomes, way).filter((name) => !MAY_SUCCEED.includes(name));
    assert.deepEqual(through, [], way);
  }
  // The probes do tell: plain Docker lets many of the same through.
  const plain = permitted(outcomes, "docker run");
  assert.ok(plain.length >= 10, plain.join(", "));
  assert.ok(plain.includes("host by TCP") && plain.includes("host by UDP"), plain.join(", "));
});
