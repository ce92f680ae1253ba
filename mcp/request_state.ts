/**
 * The `requestState` of a call that asks its client something (2026-07-28, basic/patterns/mrtr): what the
 * server wants to get back, sealed before a client sees it. The seal holds who may bring it back, for which
 * request and until when, so that it opens for nothing else; a call's state is a stranger's input anywhere.
 */
import type { SigningKey } from "../dtma/protocol.ts";
import { derivedKey } from "../models/secrets.ts";
import { RpcCode, RpcError } from "./revisions.ts";

/** How long a client may take to answer, such as a person who fills in a form. */
export const STATE_MS = 10 * 60_000;

/** What a state is bound to. */
export interface StateOf {
  agentId: string;
  serverId: string;
  method: string;
  /** The name, or the URI, that the request is about, as the server calls it. */
  name: string;
}

export interface RequestStates {
  /** @param state the server's own, or null of a server that gave none */
  seal(of: StateOf, state: string | null): Promise<string>;
  /** @throws {RpcError} for one that is not ours, of another request or caller, or too old */
  open(of: StateOf, sealed: string): Promise<string | null>;
}

export function requestStates(appSigningKey: SigningKey, ttlMs = STATE_MS): RequestStates {
  const deriving = derivedKey(appSigningKey, "mooring request state v1");

  return {
    async seal(of, state) {
      const iv = crypto.getRandomValues(new Uint8Array(12));
      const content = encode(JSON.stringify({ state, until: Date.now() + ttlMs }));
      const sealed = await crypto.subtle.encrypt(
        { name: "AES-GCM", iv, additionalData: boundTo(of) },
        await deriving,
        content,
      );
      return `v1.${toBase64Url(iv)}.${toBase64Url(new Uint8Array(sealed))}`;
    },
    async open(of, sealed) {
      const [, iv, ciphertext] = /^v1\.([\w-]{16})\.([\w-]+)$/.exec(sealed) ?? [];
      if (!iv) throw refused();
      let content: { state: string | null; until: number };
      try {
        const opened = await crypto.subtle.decrypt(
          { name: "AES-GCM", iv: fromBase64Url(iv), additionalData: boundTo(of) },
          await deriving,
          fromBase64Url(ciphertext),
        );
        content = JSON.parse(new TextDecoder().decode(opened));
      } catch {
        throw refused();
      }
      if (content.until < Date.now()) throw refused();
      return content.state;
    },
  };
}

function boundTo({ agentId, serverId, method, name }: StateOf): Uint8Array<ArrayBuffer> {
  return encode(JSON.stringify([agentId, serverId, method, name]));
}

/** One message for all reasons: which of them it is would help nobody but who tries. */
function refused(): RpcError {
  return new RpcError(
    RpcCode.invalidParams,
    "The requestState is not of this request, or too old: send the request again without it",
    200,
  );
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
