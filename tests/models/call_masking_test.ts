import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { isSecretName, MASK, Masking } from "../../models/call_masking.ts";

const LIMIT = 10_000;
const masked = (value: unknown, secrets: string[] = []) => new Masking(secrets).of(value, LIMIT);

Deno.test("isSecretName knows what secrets are called, however it is written", () => {
  for (
    const name of [
      "password",
      "db_password",
      "Authorization",
      "x-api-key",
      "apiKey",
      "API_KEY",
      "accessToken",
      "GITHUB_TOKEN",
      "client_secret",
      "privateKey",
      "Set-Cookie",
      "pin",
    ]
  ) assert.ok(isSecretName(name), name);
  for (const name of ["path", "max_tokens", "tokens", "author", "key", "spinner", "passage", ""]) {
    assert.ok(!isSecretName(name), name);
  }
});

Deno.test("Masking takes out what is called a secret, at any depth", () => {
  const { value, masked: count } = masked({
    path: "/tmp",
    password: "hunter2",
    nested: [{ apiKey: 12345, token: { a: ["b"] }, max_tokens: 100, pin: null }],
    headers: [{ name: "Authorization", value: "x" }, { name: "Accept", value: "y" }],
  });
  assert.deepEqual(value, {
    path: "/tmp",
    password: MASK,
    nested: [{ apiKey: MASK, token: MASK, max_tokens: 100, pin: null }],
    headers: [{ name: "Authorization", value: MASK }, { name: "Accept", value: "y" }],
  });
  assert.equal(count, 4);
});

Deno.test("Masking takes out known secrets, in whatever form they stand in a text", () => {
  const secret = 'q"9 ü/x+y=z\n1';
  const forms = [
    secret,
    JSON.stringify({ a: secret }),
    encodeURIComponent(secret),
    btoa(String.fromCharCode(...new TextEncoder().encode(secret))),
  ];
  for (const form of forms) {
    const { value, masked: count } = masked({ text: `before ${form} after` }, [secret, "ab"]);
    const { text } = value as { text: string };
    assert.match(text, /^before [^]*after$/);
    assert.ok(!text.includes(form) && text.includes(MASK), form);
    assert.equal(count, 1);
  }
  // One of two letters stands in half of all words.
  assert.deepEqual(masked(["ab", "cab", 77, 7], ["ab", "77"]).value, [MASK, "cab", MASK, 7]);
  const named = masked({ [`k-${secret}`]: 1 }, [secret]).value as object;
  assert.deepEqual(Object.keys(named), [`k-${MASK}`]);
});

Deno.test("Masking takes out what has the form of a secret", () => {
  const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N";
  for (
    const [text, gone] of [
      ["Bearer abcdefgh12345", "abcdefgh12345"],
      ["authorization: Bearer abcdefgh12345", "abcdefgh12345"],
      ["curl https://x.example/?api_key=s3cr3t&b=1", "s3cr3t"],
      ["postgres://me:pa55@db.example/x", "pa55"],
      ["PGPASSWORD=abc psql", "abc"],
      [`it is ${jwt}.`, jwt],
      ["ghp_0123456789abcdefghij0123", "ghp_"],
      ["sk-proj-abcdefghijklmnopqrstuv", "sk-proj"],
      ["-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "MIIabc"],
      ["-----BEGIN PRIVATE KEY-----\nMIIcut", "MIIcut"],
      ['{"user":"me","password":"hunter2"}', "hunter2"],
      ['Answer: {"token": "abc def"}', "abc def"],
    ]
  ) {
    const { value, masked: count } = masked({ content: [{ type: "text", text }] });
    assert.ok(!JSON.stringify(value).includes(gone), text);
    assert.equal(count, 1, text);
  }
  const harmless = "Reads 100 tokens of the secretary's passage on pins";
  assert.equal(masked(harmless).value, harmless);
});

Deno.test("Masking leaves valid JSON of a bounded size, whatever comes", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.string(), fc.nat(200), (text, secret, limit) => {
      const value = JSON.parse(text);
      const kept = new Masking([secret]).of(value, limit);
      const written = JSON.stringify(kept.value);
      JSON.parse(written);
      if (!kept.isCut && kept.masked === 0) assert.equal(written, JSON.stringify(value));
    }),
  );
  const long = new Masking([]).of({ text: "x".repeat(5000), more: ["y"], last: 1 }, 1000);
  assert.equal(long.isCut, true);
  assert.match((long.value as { text: string }).text, /^x{990,1000}… \(cut: 5000 characters\)$/);
  let deep: unknown = 1;
  for (let i = 0; i < 5000; i++) deep = [deep];
  assert.equal(new Masking([]).of(deep, 1000).isCut, true);
  const polluting = JSON.parse('{"__proto__": {"a": 1}}');
  assert.equal(JSON.stringify(masked(polluting).value), '{"__proto__":{"a":1}}');
});

Deno.test("Masking leaves no known secret in a value, wherever it stands", () => {
  const secret = "s3cr3t-value";
  const holding = fc.letrec((tie) => ({
    node: fc.oneof(
      { maxDepth: 4 },
      fc.tuple(fc.string(), fc.string()).map(([before, after]) => before + secret + after),
      fc.integer(),
      fc.array(tie("node"), { maxLength: 3 }),
      fc.dictionary(fc.string(), tie("node"), { maxKeys: 3 }),
      tie("node").map((inner) => JSON.stringify(inner)),
    ),
  })).node;
  fc.assert(fc.property(holding, fc.nat(500), (value, limit) => {
    const kept = new Masking([secret]).of(value, limit);
    assert.ok(!JSON.stringify(kept.value).includes(secret));
  }));
});

Deno.test("Masking keeps pictures whole or not at all, and no other bytes", () => {
  const data = "A".repeat(4000);
  const image = { type: "image", mimeType: "image/png", data };
  const { value, isCut } = masked({ content: [image, image, image] });
  const { content } = value as { content: { data: string }[] };
  assert.deepEqual(content.map(({ data }) => data.length), [4000, 4000, 0]);
  assert.equal(isCut, true);
  const blob = { uri: "file:///x", mimeType: "application/zip", blob: data };
  assert.deepEqual(masked({ resource: blob }).value, { resource: { ...blob, blob: "" } });
});

Deno.test("Masking ends on text that is made to take for ever", () => {
  // Each is what a pattern begins with, again and again.
  const parts = ["eyJaaaaaaaa-", "password=", "://a:", "Bearer ", "sk-", "-----BEGIN ", '[{"a":'];
  for (const part of parts) {
    const text = part.repeat(Math.floor(200_000 / part.length));
    new Masking(["abcdef", "password=x"]).of({ text }, 1_000_000);
  }
});
