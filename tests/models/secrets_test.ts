import assert from "node:assert/strict";
import { memoryNonces, signRequest, verifyRequest } from "../../dtma/protocol.ts";
import {
  derivedSecrets,
  newSecretsKeyText,
  openSecret,
  sealSecret,
  secretsKeyFrom,
} from "../../models/secrets.ts";

Deno.test("openSecret opens what sealSecret sealed for the same row alone", async () => {
  const key = await secretsKeyFrom(newSecretsKeyText());
  const sealed = await sealSecret(key, "row-1", "grüße 🔑");
  assert.equal(await openSecret(key, "row-1", sealed), "grüße 🔑");
  await assert.rejects(openSecret(key, "row-2", sealed), /does not open/);
  const altered = {
    ...sealed,
    ciphertext: sealed.ciphertext.map((byte, i) => i ? byte : byte ^ 1),
  };
  await assert.rejects(openSecret(key, "row-1", altered), /does not open/);
});

Deno.test("secretsKeyFrom takes older keys after the current one", async () => {
  const older = newSecretsKeyText().replace(/^\w+/, "old");
  const sealed = await sealSecret(await secretsKeyFrom(older), "row", "secret");
  const rotated = await secretsKeyFrom(`${newSecretsKeyText()},${older}`);
  assert.equal(await openSecret(rotated, "row", sealed), "secret");
  assert.notEqual((await sealSecret(rotated, "row", "new")).keyId, "old");
  await assert.rejects(
    openSecret(await secretsKeyFrom(newSecretsKeyText()), "row", sealed),
    /"old".*SECRETS_KEY/,
  );
});

Deno.test("newSecretsKeyText's keys of one day stand beside each other", async () => {
  const [current, older] = [newSecretsKeyText(), newSecretsKeyText()];
  const key = await secretsKeyFrom(`${current},${older}`);
  for (const value of ["", "\ufeffkept", "\u0000 <script>'\"; \u202e 世界"]) {
    const sealed = await sealSecret(key, "row", value);
    assert.equal(await openSecret(key, "row", sealed), value);
  }
});

Deno.test("secretsKeyFrom refuses two keys of one id, of which one would open nothing", async () => {
  const text = newSecretsKeyText();
  await assert.rejects(secretsKeyFrom(`${text},${text}`), /two keys of the id/);
});

Deno.test("secretsKeyFrom refuses another form without showing the key", async () => {
  for (const text of ["", "short", "id:AAAA", `id:${"!".repeat(44)}`, "a:b:c"]) {
    await assert.rejects(secretsKeyFrom(text), (error: Error) => !error.message.includes("AAAA"));
  }
});

Deno.test("derivedSecrets gives the same working keys for the same text", async () => {
  const text = newSecretsKeyText();
  const [first, second] = [await derivedSecrets(text), await derivedSecrets(text)];
  assert.deepEqual(first, second);
  assert.notDeepEqual(first, await derivedSecrets(newSecretsKeyText()));
  const body = new TextEncoder().encode("{}");
  const target = { method: "POST", url: "http://127.0.0.1/mcp/x?y=1", body };
  const headers = new Headers(
    signRequest(target, { keyId: "app", privateKey: first.appSigningKey.privateKey }),
  );
  const signer = await verifyRequest(
    { ...target, headers },
    body,
    () => first.appSigningKey.publicKey,
    memoryNonces(),
  );
  assert.equal(signer, "app");
});
