/**
 * The `requestState` of a call that asks its client something (2026-07-28, basic/patterns/mrtr): what the
 * server wants to get back, sealed before a client sees it. The seal holds who may bring it back, for which
 * request and until when, so that it opens for nothing else; a call's state is a stranger's input anywhere.
 */
import type { SigningKey } from "../dtma/protocol.ts";
import { RpcCode, RpcError } from "./revisions.ts";
import { seals } from "./seal.ts";

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
  open(of: StateOf, sealed: unknown): Promise<string | null>;
}

export function requestStates(appSigningKey: SigningKey, ttlMs = STATE_MS): RequestStates {
  const { seal, open } = seals(appSigningKey, "mooring request state v1");

  return {
    async seal(of, state) {
      return await seal(boundTo(of), JSON.stringify({ state, until: Date.now() + ttlMs }));
    },
    async open(of, sealed) {
      const opened = typeof sealed === "string" ? await open(boundTo(of), sealed) : null;
      if (opened === null) throw refused();
      const content: { state: string | null; until: number } = JSON.parse(opened);
      if (content.until < Date.now()) throw refused();
      return content.state;
    },
  };
}

function boundTo({ agentId, serverId, method, name }: StateOf): string[] {
  return [agentId, serverId, method, name];
}

/** One message for all reasons: which of them it is would help nobody but who tries. */
function refused(): RpcError {
  return new RpcError(
    RpcCode.invalidParams,
    "The requestState is not of this request, or too old: send the request again without it",
    200,
  );
}
