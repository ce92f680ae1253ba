import assert from "node:assert/strict";
import { readConfig } from "../config.ts";

Deno.test("a variable of blanks is not set", () => {
  const names = ["PORT", "HOST", "BASE_URL", "DATA_DIR", "DATABASE_URL", "SECRETS_KEY", "SMTP_URL"];
  const blank = Object.fromEntries(names.map((name) => [name, " "]));
  assert.deepEqual(readConfig(blank, "/root"), readConfig({}, "/root"));
  assert.equal(readConfig(blank, "/root").port, 4680);
});
