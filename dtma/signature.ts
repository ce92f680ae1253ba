import { Buffer } from "node:buffer";
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";

/**
 * HTTP Message Signatures (RFC 9421) in the one profile that the app and DTMA use, both ways:
 * Ed25519 over `@method`, `@path`, `@query` and `content-digest` (RFC 9530, SHA-256), with `created`,
 * `keyid` and `nonce`. Signer and verifier write the signature base from the same few parts, so no
 * general parser is exposed to the network: a header of any other form is refused.
 *
 * By node:crypto and not WebCrypto, whose round trip through Deno's event loop costs more than the
 * signature: 220 us to sign and 237 us to verify against 26 and 51 (Deno 2.9, measured here).
 */

const ENCODER = new TextEncoder();
const COMPONENTS = `("@method" "@path" "@query" "content-digest")`;
const INPUT =
  /^sig1=(\("@method" "@path" "@query" "content-digest"\);created=(\d{1,12});keyid="([A-Za-z0-9._:-]{1,128})";alg="ed25519";nonce="([A-Za-z0-9_-]{16,64})")$/;

/** How far a signature's time may be from ours, in seconds; nonces are remembered twice as long. */
export const CLOCK_TOLERANCE_S = 60;

/** A request that must not be served: not signed, signed wrongly, too old, altered or replayed. */
export class SignatureError extends Error {
  override name = "SignatureError";
}

/** An Ed25519 key pair: `privateKey` as PKCS #8 and `publicKey` as the 32 raw bytes, in base64url. */
export interface SigningKey {
  privateKey: string;
  publicKey: string;
}

/** Makes a new Ed25519 key pair. */
export async function generateSigningKey(): Promise<SigningKey> {
  const pair = await crypto.subtle.generateKey("Ed25519", true, [
    "sign",
    "verify",
  ]) as CryptoKeyPair;
  return {
    privateKey: toBase64Url(
      new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey)),
    ),
    publicKey: toBase64Url(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey))),
  };
}

/**
 * The headers that sign a request: `Content-Digest`, `Signature-Input`, `Signature`.
 *
 * @param target method and URL as they will be sent, and the exact body bytes
 */
export function signRequest(
  target: { method: string; url: string | URL; body: Uint8Array<ArrayBuffer> },
  key: { keyId: string; privateKey: string },
): Record<string, string> {
  const digest = contentDigest(target.body);
  const nonce = toBase64Url(crypto.getRandomValues(new Uint8Array(18)));
  const created = Math.floor(Date.now() / 1000);
  const parameters =
    `${COMPONENTS};created=${created};keyid="${key.keyId}";alg="ed25519";nonce="${nonce}"`;
  const base = signatureBase(target.method, new URL(target.url), digest, parameters);
  return {
    "content-digest": digest,
    "signature-input": `sig1=${parameters}`,
    "signature": `sig1=:${sign(null, base, privateKey(key.privateKey)).toString("base64")}:`,
  };
}

/** Signs a challenge that the other side made; `purpose` keeps proofs for one thing from another's. */
export function prove(purpose: string, challenge: string, privateKeyText: string): string {
  return sign(null, proofBase(purpose, challenge), privateKey(privateKeyText)).toString(
    "base64url",
  );
}

/** Whether the owner of a public key signed the challenge, for this purpose. */
export function isProof(
  purpose: string,
  challenge: string,
  proof: string,
  publicKeyText: string,
): boolean {
  if (!/^[A-Za-z0-9_-]{86}$/.test(proof)) return false;
  const bytes = new Uint8Array(Buffer.from(proof, "base64url"));
  return verify(null, proofBase(purpose, challenge), publicKey(publicKeyText), bytes);
}

/** Begins as no request's signature base can. */
function proofBase(purpose: string, challenge: string) {
  return ENCODER.encode(`mooring proof\n${purpose}\n${challenge}`);
}

/** Remembers nonces for as long as their signatures would be accepted. True the first time only. */
export type NonceStore = (keyId: string, nonce: string) => boolean | Promise<boolean>;

/**
 * Checks a request's signature, body digest, time and nonce; returns the id of the key that signed.
 *
 * @param request the request's line and headers; its body is given apart, as bytes
 * @param publicKeyOf the public key (base64url, raw) behind a key id, or null when it is unknown
 * @param firstUse false for a nonce that was seen before
 * @throws {SignatureError} with a reason that is safe to return
 */
export async function verifyRequest(
  request: { method: string; url: string; headers: Headers },
  body: Uint8Array<ArrayBuffer>,
  publicKeyOf: (keyId: string) => string | null | Promise<string | null>,
  firstUse: NonceStore,
): Promise<string> {
  const input = INPUT.exec(request.headers.get("signature-input") ?? "");
  const signature = /^sig1=:([A-Za-z0-9+/]{86}==):$/.exec(request.headers.get("signature") ?? "");
  if (!input || !signature) throw new SignatureError("The request is not signed");
  const [, parameters, created, keyId, nonce] = input;

  const offsetS = Number(created) - Date.now() / 1000;
  if (Math.abs(offsetS) > CLOCK_TOLERANCE_S) {
    throw new SignatureError(
      `The request's time is ${Math.round(Math.abs(offsetS))} s ${
        offsetS > 0 ? "ahead" : "behind"
      }: check both clocks`,
    );
  }
  const digest = contentDigest(body);
  if (request.headers.get("content-digest") !== digest) {
    throw new SignatureError("The body is not the one that was signed");
  }
  const rawKey = await publicKeyOf(keyId);
  if (!rawKey) throw new SignatureError("The key is not known here");
  const base = signatureBase(request.method, new URL(request.url), digest, parameters);
  const bytes = new Uint8Array(Buffer.from(signature[1], "base64"));
  const valid = verify(null, base, publicKey(rawKey), bytes);
  if (!valid) throw new SignatureError("The signature does not match");
  if (!await firstUse(keyId, nonce)) throw new SignatureError("The request was sent before");
  return keyId;
}

/** A nonce store in this process's memory, bounded by time: enough where one process verifies. */
export function memoryNonces(): NonceStore {
  let current = new Set<string>(), previous = new Set<string>(), turnedAt = Date.now();
  return (keyId, nonce) => {
    if (Date.now() - turnedAt > 2 * CLOCK_TOLERANCE_S * 1000) {
      [previous, current, turnedAt] = [current, new Set(), Date.now()];
    }
    const seen = `${keyId} ${nonce}`;
    if (current.has(seen) || previous.has(seen)) return false;
    current.add(seen);
    return true;
  };
}

function signatureBase(method: string, url: URL, digest: string, parameters: string) {
  return ENCODER.encode(
    `"@method": ${method.toUpperCase()}\n"@path": ${url.pathname}\n"@query": ${
      url.search || "?"
    }\n` +
      `"content-digest": ${digest}\n"@signature-params": ${parameters}`,
  );
}

function contentDigest(body: Uint8Array): string {
  return `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
}

/** Parsed keys by their text: parsing one costs more than signing with it. */
const parsed = new Map<string, KeyObject>();

function privateKey(text: string): KeyObject {
  const der = { format: "der", type: "pkcs8" } as const;
  return cached(text, () => createPrivateKey({ key: Buffer.from(text, "base64url"), ...der }));
}

function publicKey(text: string): KeyObject {
  const jwk = { kty: "OKP", crv: "Ed25519", x: text };
  return cached(text, () => createPublicKey({ key: jwk, format: "jwk" }));
}

function cached(text: string, make: () => KeyObject): KeyObject {
  let key = parsed.get(text);
  if (!key) {
    if (parsed.size > 1000) parsed.clear();
    parsed.set(text, key = make());
  }
  return key;
}

function toBase64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}
