/**
 * Secrets at rest: AES-256-GCM under a key that is outside the database. The ciphertext is bound to
 * its row's id (additional authenticated data), so it does not open when moved to another row.
 */
import type { SigningKey } from "../dtma/protocol.ts";

export interface SecretsKey {
  /** What new secrets are sealed with. */
  current: { id: string; key: CryptoKey };
  /** By id: the current one and older ones that still open what they sealed. */
  all: Map<string, CryptoKey>;
}

export interface SealedSecret {
  keyId: string;
  iv: Uint8Array;
  ciphertext: Uint8Array;
}

/** A new key's text, `id:base64`, for the key file or `SECRETS_KEY`. */
export function newSecretsKeyText(): string {
  // Told apart from another key of the same day: rows say by the id which key opens them.
  const id = `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}_${
    crypto.randomUUID().slice(0, 8)
  }`;
  return `${id}:${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))))}`;
}

/**
 * Reads `id:base64[,id:base64...]`: the first key is current, the others open what was sealed
 * before a rotation.
 *
 * @throws {TypeError} when it has another form or an id twice; the key itself is not in the message
 */
export async function secretsKeyFrom(text: string): Promise<SecretsKey> {
  const all = new Map<string, CryptoKey>();
  let current: SecretsKey["current"] | null = null;
  for (const { id, bytes } of parseKeys(text)) {
    if (all.has(id)) throw new TypeError(`The secrets key has two keys of the id "${id}"`);
    const key = await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, [
      "encrypt",
      "decrypt",
    ]);
    all.set(id, key);
    current ??= { id, key };
  }
  return { current: current!, all };
}

/** Seals a value for the row with the given id. */
export async function sealSecret(
  key: SecretsKey,
  rowId: string,
  value: string,
): Promise<SealedSecret> {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const ciphertext = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv, additionalData: encode(rowId) },
    key.current.key,
    encode(value),
  );
  return { keyId: key.current.id, iv, ciphertext: new Uint8Array(ciphertext) };
}

/**
 * Opens a sealed value.
 *
 * @throws {Error} naming the key that is missing, or that the ciphertext is not this row's
 */
export async function openSecret(
  key: SecretsKey,
  rowId: string,
  sealed: SealedSecret,
): Promise<string> {
  const opener = key.all.get(sealed.keyId);
  if (!opener) {
    throw new Error(
      `A secret was sealed with the key "${sealed.keyId}", which is not in SECRETS_KEY: add it back, after a comma`,
    );
  }
  try {
    const opened = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv: new Uint8Array(sealed.iv), additionalData: encode(rowId) },
      opener,
      new Uint8Array(sealed.ciphertext),
    );
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(opened);
  } catch {
    throw new Error(
      `A secret does not open: it was altered, or "${sealed.keyId}" is another key now`,
    );
  }
}

/**
 * The app's other keys, derived from the current secrets key (HKDF-SHA-256, RFC 5869) so that every
 * replica has the same ones and there is one thing to keep safe: the Ed25519 key that signs
 * data-path requests, and the secret that signs session cookies.
 */
export async function derivedSecrets(
  text: string,
): Promise<{ appSigningKey: SigningKey; authSecret: string }> {
  const [{ bytes }] = parseKeys(text);
  const seed = await derive(bytes, "mooring app signing key v1");
  // PKCS #8 of an Ed25519 private key is this prefix and the 32-byte seed (RFC 8410, section 7).
  const prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
  const pkcs8 = new Uint8Array([...prefix, ...seed]);
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", key);
  return {
    appSigningKey: { privateKey: base64Url(pkcs8), publicKey: x! },
    authSecret: base64Url(await derive(bytes, "mooring session cookies v1")),
  };
}

/** A key of the app's own for AES-256-GCM, the same at every replica, from its signing key. */
export async function derivedKey(appSigningKey: SigningKey, purpose: string): Promise<CryptoKey> {
  const bytes = await derive(encode(appSigningKey.privateKey), purpose);
  return await crypto.subtle.importKey("raw", new Uint8Array(bytes), "AES-GCM", false, [
    "encrypt",
    "decrypt",
  ]);
}

async function derive(bytes: Uint8Array<ArrayBuffer>, purpose: string): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey("raw", bytes, "HKDF", false, ["deriveBits"]);
  const parameters = {
    name: "HKDF",
    hash: "SHA-256",
    salt: new Uint8Array(),
    info: encode(purpose),
  };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, key, 256));
}

function parseKeys(text: string): { id: string; bytes: Uint8Array<ArrayBuffer> }[] {
  return text.trim().split(",").map((part) => {
    const [, id, encoded] = /^\s*([A-Za-z0-9_-]{1,40}):([A-Za-z0-9+/_-]{43}=?)\s*$/.exec(part) ??
      [];
    if (!id) {
      throw new TypeError("The secrets key must be id:base64-of-32-bytes, older keys after commas");
    }
    const standard = encoded.replaceAll("-", "+").replaceAll("_", "/").replace(/=$/, "");
    return { id, bytes: Uint8Array.from(atob(standard), (char) => char.charCodeAt(0)) };
  });
}

function base64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}
