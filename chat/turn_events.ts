import type { Changes } from "../models/changes.ts";
import { getTurn, type ToolCall, type Turn } from "../models/conversations.ts";
import type { Database, User } from "../models/db.ts";

/** What came of a turn since the last event; joined, all of them are what its rows say. */
export type TurnEvent =
  | { type: "reasoning" | "text"; step: number; text: string }
  /** A step was begun anew: what was told of it before is void. */
  | { type: "restart"; step: number }
  | ({ type: "call"; step: number } & Omit<ToolCall, "result">)
  | { type: "state"; state: Turn["state"]; trouble: string | null };

/** A wake-up can be lost, and a worker that is gone says nothing. */
const LOOK_AGAIN_MS = 5000;

/**
 * Tells a turn from its beginning, as it stands in its rows and as more comes, until nobody works on it. Any
 * replica can tell it, whoever works on it, and whoever was cut off asks again and gets all of it.
 *
 * @throws {NotFound} there is no such turn, or it was deleted
 */
export async function* turnEvents(
  { db, changes }: { db: Database; changes: Changes },
  user: User,
  { conversationId, turnId }: { conversationId: string; turnId: string },
  signal: AbortSignal,
): AsyncGenerator<TurnEvent> {
  const wakeUps = changes.subscribe(({ conversation }) => conversation === conversationId);
  const told = new Map<number, { reasoning: string; text: string }>();
  const calls = new Map<string, string>();
  let state = "";
  try {
    while (!signal.aborted) {
      const turn = await getTurn(db, user, conversationId, turnId);
      for (const { n, reasoning, text, calls: made } of turn.steps) {
        const before = told.get(n) ?? { reasoning: "", text: "" };
        if (!reasoning.startsWith(before.reasoning) || !text.startsWith(before.text)) {
          before.reasoning = before.text = "";
          yield { type: "restart", step: n };
        }
        const more = {
          reasoning: reasoning.slice(before.reasoning.length),
          text: text.slice(before.text.length),
        };
        if (more.reasoning) yield { type: "reasoning", step: n, text: more.reasoning };
        if (more.text) yield { type: "text", step: n, text: more.text };
        told.set(n, { reasoning, text });
        for (const { result: _, ...call } of made) {
          const event = { type: "call" as const, step: n, ...call };
          const text = JSON.stringify(event);
          if (calls.get(call.id) === text) continue;
          calls.set(call.id, text);
          yield event;
        }
      }
      const now = `${turn.state} ${turn.trouble}`;
      if (now !== state) yield { type: "state", state: turn.state, trouble: turn.trouble };
      state = now;
      if (turn.state !== "running") return;
      await wakeUps.next(LOOK_AGAIN_MS, signal);
    }
  } finally {
    wakeUps.close();
  }
}
