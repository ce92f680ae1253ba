import type { ModelMessage } from "ai";
import type { Step, Turn } from "../models/conversations.ts";

/** So much of a conversation is given to the model, its newest turns first: some hundred thousand tokens. */
const HISTORY_LIMIT_CHARS = 400_000;

/** A conversation as the model is given it. The last turn is whole; of those before as many as there is room for. */
export function messagesOf(turns: Turn[]): ModelMessage[] {
  const whole = turns.map(turnMessages);
  let left = HISTORY_LIMIT_CHARS;
  let first = whole.length - 1;
  for (; first >= 0; first--) {
    left -= JSON.stringify(whole[first]).length;
    if (left < 0 && first < whole.length - 1) break;
  }
  return whole.slice(first + 1).flat();
}

function turnMessages({ text, attachments, steps, state }: Turn): ModelMessage[] {
  const attached = attachments.map(({ kind, name, text }) =>
    `<attached ${kind}=${JSON.stringify(name)}>\n${text}\n</attached>`
  );
  return [
    { role: "user", content: [...attached, text].join("\n\n") },
    ...steps.flatMap((step) => stepMessages(step)),
    // Models expect that a question of theirs is answered before the next one of a person's.
    ...(state === "stopped" && steps.at(-1)?.calls.length
      ? [{ role: "assistant" as const, content: "[The person stopped me here.]" }]
      : []),
  ];
}

function stepMessages({ message, text, calls }: Step): ModelMessage[] {
  if (message === null) return text ? [{ role: "assistant", content: text }] : [];
  const said = message as ModelMessage;
  if (calls.length === 0) return [said];
  return [said, {
    role: "tool",
    content: calls.map(({ callId, tool, told, state }) => ({
      type: "tool-result" as const,
      toolCallId: callId,
      toolName: tool,
      output: {
        type: state === "done" ? "text" as const : "error-text" as const,
        value: told ?? "There is no answer",
      },
    })),
  }];
}
