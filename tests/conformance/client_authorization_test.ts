import assert from "node:assert/strict";
import { runClientAuthorization, unexpectedOf } from "./client_authorization.ts";

Deno.test({
  name: "the official suite's client scenarios of authorization pass, with Mooring as the client",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "mooring-client-authorization-" });
    // `deno task conformance` runs those of 2025-11-25 as well, which are among these.
    const outcomes = await runClientAuthorization(directory, ["2025-03-26", "2026-07-28"]);
    await Deno.remove(directory, { recursive: true });
    assert.deepEqual(unexpectedOf(outcomes), []);
    const passed = outcomes.filter(({ status }) => status === "SUCCESS");
    for (const scenario of ["metadata-default", "scope-step-up", "iss-supported", "pre-reg"]) {
      assert.ok(passed.some(({ check }) => check.startsWith(`auth/${scenario}`)), scenario);
    }
  },
});
