import assert from "node:assert/strict";
import { messagesOf, overflowOf } from "../../chat/messages.ts";
import { cut, resultText, TOLD_LIMIT_CHARS } from "../../chat/result_text.ts";
import type { Summary } from "../../models/conversation_summaries.ts";
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
    summaries: [],
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
  mediaTypes: [],
  questions: [],
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

Deno.test("overflowOf takes the oldest, until the rest takes half, and never splits a call from its answer", () => {
  const long = "x".repeat(1500);
  const called = (n: number) => ({
    ...step,
    n,
    message: {
      role: "assistant",
      content: [{ type: "tool-call", toolCallId: `c${n}`, toolName: "echo", input: { long } }],
    },
    calls: [{ ...call, id: `${n}`, callId: `c${n}`, told: long }],
  });
  const turns = [
    turn("first", { id: "1", steps: [called(0), called(1)] }),
    turn("second", { id: "2", steps: [called(0)] }),
    turn("third", { id: "3", steps: [called(0), called(1), called(2), called(3), called(4)] }),
  ];
  assert.equal(overflowOf(turns, { limitChars: 100_000 }), null);
  let summary: Summary | null = null;
  const limitChars = 10_000;
  const asked: string[] = [];
  for (let n = 1;; n++) {
    const long = overflowOf(turns, { summary, limitChars });
    if (!long) break;
    assert.ok(long.text.length < limitChars + 300, "a model can read it");
    asked.push(long.text);
    summary = {
      id: `${n}`,
      at: { turnId: "3", step: 5 },
      until: long.until,
      text: `sum ${n}`,
      inputTokens: null,
      outputTokens: null,
    };
  }
  assert.match(asked[0], /^Person: first\n\nAssistant calls echo/);
  assert.match(asked[1], /^Person: <earlier summarised>\nsum 1/, "each stands for those before");
  const messages = messagesOf(turns, { summary, limitChars });
  assert.ok(JSON.stringify(messages).length <= limitChars);
  assert.match(String(messages[0].content), /^<earlier summarised>\nsum \d\n<\/earlier>\n\nthird$/);
  const ids = (role: string) =>
    messages.filter((each) => each.role === role)
      .flatMap(({ content }) => content as { toolCallId: string }[])
      .map(({ toolCallId }) => toolCallId);
  assert.deepEqual(ids("assistant"), ids("tool"));
  assert.equal(ids("tool").at(-1), "c4");
  const alone = [turn("b".repeat(900_000))];
  assert.equal(overflowOf(alone, { limitChars }), null, "what a person says now is given whole");
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
    "one\n[image, image/png: the person sees it; you do if it comes behind the answers]\n[link: A https://a.example]\n" +
      "[file:///n]\nNotes\n[hologram, no known type: the person sees it; you do if it comes behind the answers]",
  );
  assert.equal(resultText({ content: [], structuredContent: { a: 1 } }), `{"a":1}`);
  assert.match(resultText({ content: [] }), /answered with nothing/);
  const long = cut("🎉".repeat(TOLD_LIMIT_CHARS));
  assert.ok(long.isWellFormed(), "no half of a character");
  assert.match(long, /the first 40,000 of 80,000 characters/);
});
