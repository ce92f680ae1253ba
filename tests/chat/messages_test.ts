import assert from "node:assert/strict";
import { messagesOf } from "../../chat/messages.ts";
import { cut, resultText, TOLD_LIMIT_CHARS } from "../../chat/result_text.ts";
import type { Turn } from "../../models/conversations.ts";

function turn(text: string, more: Partial<Turn> = {}): Turn {
  return {
    id: "t",
    text,
    attachments: [],
    state: "done",
    trouble: null,
    stopAsked: false,
    isLast: false,
    startedAt: new Date(),
    endedAt: null,
    steps: [],
    ...more,
  };
}

const step = {
  n: 0,
  reasoning: "",
  text: "",
  message: { role: "assistant", content: "asks" },
  inputTokens: null,
  outputTokens: null,
  calls: [],
};
const call = {
  id: "1",
  callId: "c1",
  tool: "echo",
  arguments: "{}",
  state: "done" as const,
  told: "ahoy",
  result: null,
  resultBytes: null,
  startedAt: null,
  durationMs: null,
};

Deno.test("messagesOf tells what was said, attached, called and stopped", () => {
  const messages = messagesOf([
    turn("Look", {
      attachments: [{ kind: "resource", name: "file:///a", text: "of a" }],
      state: "stopped",
      steps: [{
        ...step,
        calls: [call, { ...call, callId: "c2", state: "stopped", told: "The person stopped it" }],
      }],
    }),
    turn("Go on", { steps: [{ ...step, message: null, text: "half" }] }),
  ]);
  assert.deepEqual(messages.map(({ role }) => role), [
    "user",
    "assistant",
    "tool",
    "assistant",
    "user",
    "assistant",
  ]);
  assert.match(
    String(messages[0].content),
    /^<attached resource="file:\/\/\/a">\nof a\n<\/attached>\n\nLook$/,
  );
  const results = messages[2].content as { toolCallId: string; output: unknown }[];
  assert.deepEqual(results.map(({ output }) => output), [
    { type: "text", value: "ahoy" },
    { type: "error-text", value: "The person stopped it" },
  ]);
  assert.equal(messages[5].content, "half");
});

Deno.test("messagesOf leaves out the oldest turns of a long conversation, and never the last", () => {
  const long = "x".repeat(150_000);
  const messages = messagesOf(["a", "b", "c", "d"].map((name) => turn(name + long)));
  assert.deepEqual(messages.map(({ content }) => String(content)[0]), ["c", "d"]);
  assert.equal(messagesOf([turn("a"), turn("b".repeat(900_000))]).length, 1);
});

Deno.test("resultText gives a model text alone, and cuts it with a note", () => {
  const told = resultText({
    content: [
      { type: "text", text: "one" },
      { type: "image", data: "AAAA", mimeType: "image/png" },
      { type: "resource_link", uri: "https://a.example", name: "A" },
      { type: "resource", resource: { uri: "file:///n", text: "Notes" } },
      { type: "hologram" },
    ],
  });
  assert.equal(
    told,
    "one\n[image, image/png: shown to the person, not to you]\n[link: A https://a.example]\n" +
      "[file:///n]\nNotes\n[hologram, no known type: shown to the person, not to you]",
  );
  assert.equal(resultText({ content: [], structuredContent: { a: 1 } }), `{"a":1}`);
  assert.match(resultText({ content: [] }), /answered with nothing/);
  const long = cut("🎉".repeat(TOLD_LIMIT_CHARS));
  assert.ok(long.isWellFormed(), "no half of a character");
  assert.match(long, /the first 40,000 of 80,000 characters/);
});
