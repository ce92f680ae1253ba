import assert from "node:assert/strict";
import { runAuthorization } from "./authorization.ts";

Deno.test({
  name: "the official suite's scenarios for authorization servers pass",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "mooring-authorization-" });
    const outcomes = await runAuthorization(directory);
    await Deno.remove(directory, { recursive: true });
    assert.deepEqual(outcomes.filter(({ status }) => status !== "SUCCESS"), []);
    const passed = outcomes.map(({ check }) => check);
    for (const scenario of ["authorization-server-metadata-endpoint", "authorization-code-grant"]) {
      for (const revision of ["2025-11-25", "2026-07-28"]) {
        assert.ok(
          passed.some((check) => check.includes(scenario) && check.includes(revision)),
          `${scenario} ${revision}: ${passed.join(", ")}`,
        );
      }
    }
  },
});
