import assert from "node:assert/strict";
import { engineTest } from "../dtma/engine.ts";
import { gvisorTest } from "../dtma/gvisor.ts";
import { breakOut, permitted, tableOf } from "./break_out.ts";
import { breakOutOfGvisor, probeNames, WITHIN_GVISOR, WITHOUT_SECCOMP } from "./gvisor.ts";

/** What the policy cannot take away: there is no seccomp rule for where a program's text comes from. */
const MAY_SUCCEED = ["run a file in a memfd"];

engineTest("No probe breaks out of a container under the policy", async (toolbox) => {
  const outcomes = await breakOut(toolbox);
  console.log(tableOf(outcomes));
  for (const tried of outcomes.values()) {
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

gvisorTest("No probe breaks out of gVisor", async (toolbox) => {
  for (
    const [runtime, may] of [["runsc", WITHIN_GVISOR], ["runsc-plain", WITHOUT_SECCOMP]] as const
  ) {
    const outcomes = await breakOutOfGvisor(toolbox, runtime);
    console.log(tableOf(new Map([["policy, in gVisor", outcomes]])));
    assert.deepEqual(outcomes.map(({ name }) => name), await probeNames());
    const through = outcomes.filter((each) => each.permitted).map(({ name }) => name);
    assert.deepEqual(through.filter((name) => !may.includes(name)), [], runtime);
  }
});
