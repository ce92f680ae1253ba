import assert from "node:assert/strict";
import {
  generateSigningKey,
  isProof,
  memoryNonces,
  prove,
  SignatureError,
  signRequest,
  verifyRequest,
} from "../../dtma/protocol.ts";

const key = await generateSigningKey();
const other = await generateSigningKey();
const body = new TextEncoder().encode('{"a":1}');
const target = { method: "POST", url: "http://dtma:1/mcp/abc?x=1", body };

/** Signs the target and verifies it after a change. */
async function verify(change: {
  method?: string;
  url?: string;
  body?: Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
  privateKey?: string;
  nonces?: ReturnType<typeof memoryNonces>;
} = {}) {
  const headers = signRequest(target, {
    keyId: "app",
    privateKey: change.privateKey ?? key.privateKey,
  });
  const request = {
    method: change.method ?? target.method,
    url: change.url ?? target.url,
    headers: new Headers({ ...headers, ...change.headers }),
  };
  return await verifyRequest(
    request,
    change.body ?? body,
    (id) => id === "app" ? key.publicKey : null,
    change.nonces ?? memoryNonces(),
  );
}

Deno.test("verifyRequest gives the key's id for a request as it was signed", async () => {
  assert.equal(await verify(), "app");
});

Deno.test("verifyRequest refuses a request that was changed after it was signed", async () => {
  const refused = (change: Parameters<typeof verify>[0], message: RegExp) =>
    assert.rejects(verify(change), (error) => {
      assert(error instanceof SignatureError);
      assert.match(error.message, message);
      return true;
    });
  await refused({ body: new TextEncoder().encode('{"a":2}') }, /body/);
  await refused({ body: new Uint8Array() }, /body/);
  await refused({ url: "http://dtma:1/mcp/abd?x=1" }, /does not match/);
  await refused({ url: "http://dtma:1/mcp/abc?x=2" }, /does not match/);
  await refused({ url: "http://dtma:1/mcp/abc" }, /does not match/);
  await refused({ method: "PUT" }, /does not match/);
  await refused({ privateKey: other.privateKey }, /does not match/);
  await refused({ headers: { signature: "sig1=:AAAA:" } }, /not signed/);
  await refused({ headers: { "signature-input": "sig1=()" } }, /not signed/);
});

Deno.test("verifyRequest refuses any change of the signature's own parameters", async () => {
  const headers = signRequest(target, { keyId: "app", privateKey: key.privateKey });
  const input = headers["signature-input"];
  const changes: [string, RegExp][] = [
    [input.replace(/nonce="./, 'nonce="-'), /does not match/],
    [input.replace('keyid="app"', 'keyid="nobody"'), /not known/],
    [input.replace('"@query" ', ""), /not signed/],
    [input + ";expires=1", /not signed/],
  ];
  for (const [changed, message] of changes) {
    const request = { ...target, headers: new Headers({ ...headers, "signature-input": changed }) };
    await assert.rejects(
      verifyRequest(
        request,
        body,
        (id) => id === "app" ? key.publicKey : null,
        memoryNonces(),
      ),
      message,
    );
  }
});

Deno.test("verifyRequest refuses a request that is too old or too new, by how much", async () => {
  const now = Date.now;
  const headers = signRequest(target, { keyId: "app", privateKey: key.privateKey });
  const request = { ...target, headers: new Headers(headers) };
  const at = async (offsetMs: number) => {
    Date.now = () => now() + offsetMs;
    try {
      return await verifyRequest(request, body, () => key.publicKey, memoryNonces());
    } finally {
      Date.now = now;
    }
  };
  assert.equal(await at(30_000), "app");
  await assert.rejects(at(90_000), /90 s behind|91 s behind/);
  await assert.rejects(at(-90_000), /90 s ahead|89 s ahead/);
});

Deno.test("verifyRequest refuses a replay, and a signature that fails uses up no nonce", async () => {
  const nonces = memoryNonces();
  const headers = signRequest(target, { keyId: "app", privateKey: key.privateKey });
  const request = { ...target, headers: new Headers(headers) };
  const once = (bytes: Uint8Array<ArrayBuffer>) =>
    verifyRequest(request, bytes, () => key.publicKey, nonces);
  await assert.rejects(once(new Uint8Array()), /body/);
  assert.equal(await once(body), "app");
  await assert.rejects(once(body), /sent before/);
});

Deno.test("prove makes what isProof takes, for one purpose, challenge and key alone", async () => {
  const [one, other] = [await generateSigningKey(), await generateSigningKey()];
  const proof = prove("a link", "challenge", one.privateKey);
  assert.equal(isProof("a link", "challenge", proof, one.publicKey), true);
  assert.equal(isProof("another", "challenge", proof, one.publicKey), false);
  assert.equal(isProof("a link", "another", proof, one.publicKey), false);
  assert.equal(isProof("a link", "challenge", proof, other.publicKey), false);
  for (const text of ["", "x", proof.slice(1), `${proof}=`, "A".repeat(86)]) {
    assert.equal(isProof("a link", "challenge", text, one.publicKey), false, text);
  }
});
