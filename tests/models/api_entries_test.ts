import assert from "node:assert/strict";
import {
  API_MEMORY_MIB,
  apiEntry,
  credentialFields,
  readPlan,
  withTools,
} from "../../models/api_entries.ts";
import type { CatalogEntry } from "../../models/catalog_entries.ts";
import { Invalid } from "../../models/errors.ts";
import { readApiDocument } from "../../models/openapi_document.ts";
import { schemesOf, serversOf, toolsOf } from "../../models/openapi_operations.ts";
import { resolveInputs } from "../../models/server_form.ts";

const read = readApiDocument(
  await Deno.readTextFile(new URL("../fixtures/apis/pets.yaml", import.meta.url)),
);
const tools = toolsOf(read.document, ["GET /pets", "POST /pets"], { tellsShape: true });
const api = { ...read, servers: serversOf(read.document), schemes: schemesOf(read.document) };

function entryOf(form: Record<string, string>, chosen = tools): CatalogEntry {
  return apiEntry(api, chosen, form);
}

function planIn({ package: from }: CatalogEntry) {
  assert.equal(from.registry, "openapi");
  return readPlan((from as { plan: string }).plan);
}

Deno.test("apiEntry reaches the API's host alone, with credentials as secrets of their own names", () => {
  const entry = entryOf({
    server: "0",
    "variable.0.region": "us",
    "env.AUTH_KEY": "a-key",
    "own.kind": "query",
    "own.name": "team",
    "env.AUTH_OWN": "ours",
  });
  assert.equal((entry.package as { url: string }).url, "https://us.pets.example.com/v1");
  assert.deepEqual(entry.network.hosts, ["us.pets.example.com:443"]);
  assert.equal(entry.memoryMiB, API_MEMORY_MIB);
  const plan = planIn(entry);
  assert.deepEqual(plan.credentials, [
    { place: "header", name: "X-Api-Key", scheme: "plain", variables: ["AUTH_KEY"] },
    {
      place: "header",
      name: "Authorization",
      scheme: "basic",
      variables: ["AUTH_LOGIN_USER", "AUTH_LOGIN_PASSWORD"],
    },
    { place: "header", name: "Authorization", scheme: "bearer", variables: ["AUTH_OAUTH"] },
    { place: "query", name: "team", scheme: "plain", variables: ["AUTH_OWN"] },
  ]);
  assert.ok(!/a-key|ours/.test(JSON.stringify(entry)), "a value is no part of the entry");
  const given = { AUTH_KEY: "a-key", AUTH_OWN: "ours" };
  const { environment, secrets } = resolveInputs(entry, {}, given);
  assert.deepEqual([environment, secrets], [{}, given]);
  // A slash at the end is the paths' own; a default stands in for what is not given.
  const other = entryOf({ server: "other", baseUrl: " https://own.example.com:8443/api/// " });
  assert.equal((other.package as { url: string }).url, "https://own.example.com:8443/api");
  assert.deepEqual(other.network.hosts, ["own.example.com:8443"]);
  assert.deepEqual(entryOf({}).network.hosts, ["eu.pets.example.com:443"]);
});

Deno.test("credentialFields gives no two inputs one variable", () => {
  const scheme = { place: "header", name: "X", description: "" } as const;
  const fields = credentialFields([
    { ...scheme, id: "own", scheme: "plain" },
    { ...scheme, id: "x", scheme: "basic" },
    { ...scheme, id: "x_user", scheme: "plain" },
    { ...scheme, id: "<x-user>", scheme: "plain" },
    { ...scheme, id: "日本", scheme: "plain" },
  ]);
  assert.deepEqual(fields.flatMap(({ inputs }) => inputs.map(({ variable }) => variable)), [
    "AUTH_OWN_2",
    "AUTH_X_USER",
    "AUTH_X_PASSWORD",
    "AUTH_X_USER_2",
    "AUTH_X_USER_3",
    "AUTH_KEY",
  ]);
});

Deno.test("apiEntry says what is wrong with a form, field by field", () => {
  const own = (kind: string, name = "") => ({ "own.kind": kind, "own.name": name });
  const at = (baseUrl: string) => ({ server: "other", baseUrl });
  const wrong: [Record<string, string>, string, RegExp][] = [
    [at(""), "baseUrl", /whole URL/],
    [at("javascript:alert(1)"), "baseUrl", /whole URL/],
    [at("https://user:secret@a.example/"), "baseUrl", /no user or password/],
    [at("https://a.example/?key=1"), "baseUrl", /before its \?/],
    [at("https://127.0.0.1/"), "baseUrl", /name its host/],
    [at("https://[::1]/"), "baseUrl", /name its host/],
    [at("https://{a}.example/"), "baseUrl", /whole URL|variable/],
    [{ "variable.0.region": "evil.example/x?" }, "server", /before its \?/],
    [{ "variable.0.region": "u:p@evil" }, "server", /no user or password/],
    [{ server: "1", "env.AUTH_KEY": "k" }, "consent.plainHttp", /http.*anybody/],
    [{ "env.AUTH_KEY": "k\r\nX-Evil: 1" }, "env.AUTH_KEY", /one line/],
    [{ "env.AUTH_LOGIN_USER": "a:b" }, "env.AUTH_LOGIN_USER", /colon/],
    [own("header", "X-A\r\nB"), "own.name", /header's name/],
    [own("header", "Host"), "own.name", /connection/],
    [own("query"), "own.name", /has a name/],
    [own("nonsense"), "own.kind", /Choose/],
  ];
  for (const [form, field, why] of wrong) {
    assert.throws(() => entryOf(form), (error) => {
      assert.ok(error instanceof Invalid);
      assert.match(error.fields[field] ?? JSON.stringify(error.fields), why);
      return true;
    }, JSON.stringify(form));
  }
  assert.throws(() => entryOf({}, []), /one operation/);
  assert.throws(() => entryOf({}, Array(201).fill(tools[0])), /at most 200/);
  const large = { ...tools[0], accept: "x".repeat(1024 * 1024) };
  assert.throws(() => entryOf({}, [large]), /fit: choose fewer/);
});

Deno.test("without consent an API over http has no credentials, also later", () => {
  const plain = entryOf({ server: "1" });
  assert.deepEqual([plain.environment, planIn(plain).credentials], [[], []]);
  const agreed = entryOf({ server: "1", "consent.plainHttp": "true", "env.AUTH_KEY": "k" });
  assert.ok(agreed.environment.length > 0);
});

Deno.test("withTools changes the operations, and neither where they are nor what is sent", () => {
  const entry = entryOf({ "variable.0.region": "us" });
  const changed = withTools(entry, { title: "Pets 2", version: "2" }, tools.slice(0, 1));
  const before = planIn(entry), after = planIn(changed);
  assert.deepEqual({ ...after, tools: [], apiVersion: "" }, {
    ...before,
    tools: [],
    apiVersion: "",
  });
  assert.deepEqual([after.tools.length, after.apiVersion], [1, "2"]);
  assert.throws(() => withTools(entry, { title: "", version: "" }, []), /one operation/);
});

Deno.test("a plan that is none is of no tools", () => {
  for (const plan of ["", "{}", "[]", '{"version":1,"tools":[{}]}', "null"]) {
    assert.deepEqual(readPlan(plan).tools, []);
  }
});
