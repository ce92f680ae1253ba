import assert from "node:assert/strict";
import { engineTest } from "../dtma/engine.ts";
import { breakOut, tableOf, WAYS } from "./break_out.ts";

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
  const permitted = (way: (typeof WAYS)[number]) =>
    outcomes.get(way)!.filter((each) => each.permitted).map(({ name }) => name);
  for (const way of ["policy, no network", "policy, allow list"] as const) {
    const through = permitted(way).filter((name) => !MAY_SUCCEED.includes(name));
    assert.deepEqual(through, [], way);
  }
  // The probes do tell: plain Docker lets many of the same through.
  assert.ok(permitted("docker run").length >= 10, permitted("docker run").join(", "));
  assert.ok(permitted("docker run").includes("host by TCP"));
  assert.ok(permitted("docker run").includes("host by UDP"));
});
