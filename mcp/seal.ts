/**
 * What the bridge gives a client to bring back, sealed (AES-GCM): a client cannot read it, alter it, or bring
 * it back in another place than the one it is bound to. The key comes from the app's own, so that every
 * replica opens what another sealed.
 */
import type { SigningKey } from "../dtma/protocol.ts";
import { derivedKey } from "../models/secrets.ts";

export interface Seals {
  /** @param boundTo what has to be the same when it is opened */
  seal(boundTo: unknown[], content: string): Promise<string>;
  /** Null for what was not sealed here, or is bound to something else. */
  open(boundTo: unknown[], sealed: string): Promise<string | null>;
}

/** @param purpose what is sealed: nothing sealed for another opens */
export function seals(appSigningKey: SigningKey, purpose: string): Seals {
  const deriving = derivedKey(appSigningKey, purpose);

  return {
    async seal(boundTo, content) {
      const iv = crypto.getRandomValues(new Uint8Array(12));
      const sealed = await crypto.subtle.encrypt(
        { name: "AES-GCM", iv, additionalData: encode(JSON.stringify(boundTo)) },
        await deriving,
        encode(content),
      );
      return `v1.${toBase64Url(iv)}.${toBase64Url(new Uint8Array(sealed))}`;
    },
    async open(boundTo, sealed) {
      const [, iv, ciphertext] = /^v1\.([\w-]{16})\.([\w-]+)$/.exec(sealed) ?? [];
      if (!iv) return null;
      try {
        const opened = await crypto.subtle.decrypt(
          {
            name: "AES-GCM",
            iv: fromBase64Url(iv),
            additionalData: encode(JSON.stringify(boundTo)),
          },
          await deriving,
          fromBase64Url(ciphertext),
        );
        return new TextDecoder().decode(opened);
      } catch {
        return null;
      }
    },
  };
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function toBase64Url(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  const standard = text.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(standard), (char) => char.charCodeAt(0));
}
