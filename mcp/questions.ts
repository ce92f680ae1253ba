/** What a server wants to know of a client before its revision had another way: requests of ours to it. */
import { ErrorCode } from "../dtma/protocol.ts";
import type { Outlet } from "./exchange.ts";
import { messageText } from "./messages.ts";
import { STATE_MS } from "./request_state.ts";
import { type Answer, failure } from "./router.ts";

/** With which the ids of our requests begin, so that no other answer goes on to other replicas. */
export const QUESTION_PREFIX = "mooring-";

export interface Questions {
  ask: NonNullable<Outlet["ask"]>;
  /** Takes a client's answer. @returns whether it was to one of these questions */
  hear(id: string, answer: Answer): boolean;
}

/** The questions of one request. @param send sends a message to its client */
export function questions(send: (text: string) => void): Questions {
  const open = new Map<string, (answer: Answer) => void>();

  return {
    async ask(method, paramsText, signal) {
      signal.throwIfAborted();
      const id = `${QUESTION_PREFIX}${randomText()}`;
      const { promise, resolve, reject } = Promise.withResolvers<Answer>();
      const withdraw = (reason: string) =>
        send(messageText("notifications/cancelled", JSON.stringify({ requestId: id, reason })));
      const onAbort = () => {
        withdraw("The request that it belongs to was cancelled");
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        withdraw("It was not answered in time");
        resolve(failure(ErrorCode.timedOut, "The client did not answer in time"));
      }, STATE_MS);
      signal.addEventListener("abort", onAbort, { once: true });
      open.set(id, resolve);
      send(messageText(method, paramsText, id));
      try {
        return await promise;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        open.delete(id);
      }
    },
    hear(id, answer) {
      open.get(id)?.(answer);
      return open.has(id);
    },
  };
}

/** 22 characters of chance. */
export function randomText(): string {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))))
    .replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
}
