import type { CallQuestion } from "../models/conversation_questions.ts";
import type { Step, ToolCall, Turn } from "../models/conversations.ts";
import { Contents } from "./content.tsx";
import { definitionText } from "./difference.tsx";
import { Markdown } from "./markdown.tsx";
import { Form } from "./form.tsx";
import { bytes, count, duration } from "./parts.tsx";
import { QuestionText } from "./question.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ChatTurnProps {
  conversationId: string;
  turn: Turn;
  agentName: string;
}

/** What servers ask the person in a turn just now. */
export function openQuestions(turn: Turn): (CallQuestion & { tool: string })[] {
  if (turn.state !== "waiting" && turn.state !== "running") return [];
  return turn.steps.flatMap(({ calls }) => calls).flatMap((call) =>
    call.questions.filter(({ state }) => state === "open")
      .map((question) => ({ ...question, tool: calledBy(call).name }))
  );
}

/** What a person said, and the answer as far as it is. */
export function ChatTurn(props: ChatTurnProps) {
  const { turn, agentName, conversationId } = props;
  return (
    <article id={`turn-${turn.id}`} class="turn" data-turn={turn.state}>
      <div class="asked">
        <h2 class="hidden">You</h2>
        <p class="pre">{visibleText(turn.text)}</p>
        <Attachments {...props} />
      </div>
      <div class="answered">
        <h2 class="hidden">{visibleText(agentName)}</h2>
        {turn.steps.map((step) => (
          <>
            <Summaries turn={turn} before={step.n} />
            <ChatStep conversationId={conversationId} turnId={turn.id} step={step} />
          </>
        ))}
        <Summaries turn={turn} before={turn.steps.length} />
        <TurnState {...props} />
      </div>
    </article>
  );
}

function Attachments({ turn: { id, attachments }, conversationId }: ChatTurnProps) {
  let files = 0;
  return (
    <>
      {attachments.map(({ kind, name, text, media = [] }) => (
        <details>
          <summary>
            Attached {kind}: {visibleText(name)}
          </summary>
          <pre tabindex={0}>{visibleText(text.slice(0, 20_000))}</pre>
          {media.map(({ mediaType, bytes: size }) => (
            <File
              path={`/chat/${conversationId}/turns/${id}/attached/${files++}`}
              mediaType={mediaType}
              from="attached"
              size={size}
            />
          ))}
        </details>
      ))}
    </>
  );
}

/** A file that is not on the page itself: a picture where a browser shows it, else a link. */
function File({ path, mediaType, from, size }: {
  path: string;
  mediaType: string;
  from: string;
  size?: number;
}) {
  const url = useUrl();
  const isShown = /^image\/(png|jpeg|gif|webp|avif)$/.test(mediaType);
  return (
    <figure>
      {isShown && <img class="answer" loading="lazy" alt={`A picture, ${from}`} src={url(path)} />}
      <figcaption>
        <small>
          {visibleText(mediaType)}
          {size !== undefined && <>, {bytes(size)}</>} <a href={url(path)} download>Download</a>
        </small>
      </figcaption>
    </figure>
  );
}

/** What stands for earlier turns from here on, for the model. */
function Summaries({ turn, before }: { turn: Turn; before: number }) {
  return (
    <>
      {turn.summaries.filter(({ at }) => at.step === before).map(({ id, text }) =>
        text === null
          ? turn.state === "running" && <p>◐ Summarising earlier turns…</p>
          : (
            <details class="reasoning" id={`summary-${id}`}>
              <summary>Earlier turns, summarised</summary>
              <p class="help">
                They had become too long for the model: from here on it knows this of them. You
                still see all of it above.
              </p>
              <Markdown text={text} id={`summary-${id}`} />
            </details>
          )
      )}
    </>
  );
}

function ChatStep(
  { conversationId, turnId, step }: { conversationId: string; turnId: string; step: Step },
) {
  const id = `step-${turnId}-${step.n}`;
  return (
    <div id={id}>
      {step.reasoning && (
        <details class="reasoning">
          <summary>Thought</summary>
          <p class="pre">{visibleText(step.reasoning)}</p>
        </details>
      )}
      {step.text && <Markdown text={step.text} id={id} />}
      {step.calls.map((call) => <Call conversationId={conversationId} call={call} />)}
    </div>
  );
}

/** What a call is at, with its sign: colour is never the only difference. */
const CALLS: Record<ToolCall["state"], { sign: string; says: string }> = {
  asked: { sign: "?", says: "waits for your word" },
  allowed: { sign: "○", says: "is next" },
  running: { sign: "◐", says: "is at work" },
  waiting: { sign: "?", says: "waits for your answer" },
  done: { sign: "✓", says: "answered" },
  failed: { sign: "▲", says: "failed" },
  denied: { sign: "■", says: "was not allowed" },
  stopped: { sign: "■", says: "was stopped" },
};

function Call({ conversationId, call }: { conversationId: string; call: ToolCall }) {
  const { sign, says } = CALLS[call.state];
  const { name, args } = calledBy(call);
  return (
    <details class={`call ${call.state}`} id={`call-${call.id}`} open={call.state === "asked"}>
      <summary>
        <span aria-hidden="true">{sign}</span> <code>{visibleText(name)}</code> {says}{" "}
        {call.durationMs !== null && <small>after {duration(call.durationMs)}</small>}
      </summary>
      <h3>Arguments</h3>
      <pre tabindex={0}>{definitionText(args)}</pre>
      {call.questions.filter(({ state }) => state !== "open")
        .map((question) => <Told question={question} />)}
      {call.state === "asked" && (
        <Decision conversationId={conversationId} call={call} name={name} />
      )}
      <Answer conversationId={conversationId} call={call} />
    </details>
  );
}

function Decision(
  { conversationId, call, name }: { conversationId: string; call: ToolCall; name: string },
) {
  const url = useUrl();
  return (
    <Form action={url(`/chat/${conversationId}/calls/${call.id}`)} class="decision">
      <p>
        <strong>May the agent call this?</strong> Nothing happens until you say.
      </p>
      <p class="acts">
        <button name="decision" value="allow" aria-label={`Allow the call of ${visibleText(name)}`}>
          Allow
        </button>
        <button
          class="quiet"
          name="decision"
          value="deny"
          aria-label={`Deny the call of ${visibleText(name)}`}
        >
          Deny
        </button>
      </p>
    </Form>
  );
}

/** What a server asked, and what came of it. */
function Told({ question: { serverName, params, state, content } }: { question: CallQuestion }) {
  const filled = Object.entries((content ?? {}) as Record<string, unknown>);
  const { properties } = (params.requestedSchema ?? {}) as {
    properties?: Record<string, { title?: unknown }>;
  };
  return (
    <>
      <h3>{visibleText(serverName ?? "Its server")} asked you</h3>
      <QuestionText params={params} />
      {state !== "open" && (
        <p>
          {state === "accepted" && params.mode === "url"
            ? "✓ You said that you have done it."
            : ANSWERS[state]}
        </p>
      )}
      {filled.length > 0 && (
        <dl class="facts">
          {filled.map(([name, value]) => (
            <>
              <dt>{visibleText(String(properties?.[name]?.title ?? name).slice(0, 200))}</dt>
              <dd>{visibleText(pretty(value).slice(0, 2000))}</dd>
            </>
          ))}
        </dl>
      )}
    </>
  );
}

const ANSWERS: Record<Exclude<CallQuestion["state"], "open">, string> = {
  accepted: "✓ You answered. The server has it; the model does not, unless the server tells it.",
  declined: "■ You declined.",
  cancelled: "■ You dismissed it.",
  expired: "▲ Nobody answered in time.",
  withdrawn: "■ It was stopped before you answered.",
};

function Answer({ conversationId, call }: { conversationId: string; call: ToolCall }) {
  const url = useUrl();
  if (call.told === null) return null;
  const content = contentOf(call);
  return (
    <>
      <h3>Answer</h3>
      {content ? <Contents blocks={content} /> : (
        <>
          <pre tabindex={0}>{visibleText(call.told.slice(0, 20_000))}</pre>
          {call.mediaTypes.map((mediaType, n) => (
            <File
              path={`/chat/${conversationId}/calls/${call.id}/media/${n}`}
              mediaType={mediaType}
              from="from the tool"
            />
          ))}
        </>
      )}
      {call.resultBytes !== null && (
        <p>
          <a href={url(`/chat/${conversationId}/calls/${call.id}/result`)} download>
            All of it, as JSON
          </a>{" "}
          <small>{bytes(call.resultBytes)}</small>
        </p>
      )}
    </>
  );
}

/** The blocks of an answer that came along. */
function contentOf({ result }: ToolCall): unknown[] | null {
  if (result === null) return null;
  const { content } = JSON.parse(result) as { content?: unknown };
  return Array.isArray(content) && content.length > 0 ? content : null;
}

/** With tool search the tool is named within. */
function calledBy({ tool, arguments: text }: ToolCall): { name: string; args: unknown } {
  const args = parsed(text) as { name?: unknown; arguments?: unknown } | undefined;
  if (tool !== "call_tool" || typeof args?.name !== "string") {
    return { name: tool, args: args ?? text };
  }
  return { name: args.name, args: args.arguments ?? {} };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function pretty(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

function TurnState({ conversationId, turn }: ChatTurnProps) {
  const url = useUrl();
  const path = url(`/chat/${conversationId}/turns/${turn.id}`);
  const calls = turn.steps.flatMap(({ calls }) => calls);
  const waiting = calls.filter(({ state }) => state === "asked");
  const questions = openQuestions(turn);
  const used = [...turn.steps, ...turn.summaries].reduce(
    (sum, { inputTokens, outputTokens }) => sum + (inputTokens ?? 0) + (outputTokens ?? 0),
    0,
  );
  const isOpen = turn.state === "running" || turn.state === "waiting";
  const canRetry = turn.isLast && ["failed", "lost", "stopped", "unanswered"].includes(turn.state);
  return (
    <div class="turn-state">
      <p role="status">
        {turn.state === "running" && (turn.stopAsked ? "◐ Stopping…" : "◐ Answering…")}
        {turn.state === "waiting" && waiting.length > 0 &&
          `? ${count(waiting.length, "call")} ${
            waiting.length === 1 ? "waits" : "wait"
          } for your word. `}
        {turn.state === "waiting" && questions.length > 0 &&
          `? ${visibleText(questions[0].serverName ?? "A server")} asks you: answer below.`}
        {turn.state === "unanswered" &&
          "▲ Nobody answered in time, so the server waits no longer. Go on without an answer."}
        {turn.state === "failed" && `▲ ${visibleText(turn.trouble ?? "It failed")}.`}
        {turn.state === "lost" &&
          "▲ Whatever worked on this answer is gone. What it had is above; try again to go on from there."}
        {turn.state === "stopped" && "■ Stopped."}
        {turn.state === "done" && turn.trouble && visibleText(`▲ ${turn.trouble}.`)}
        {turn.state === "done" && !turn.trouble && (
          <small>{used > 0 ? `✓ ${used.toLocaleString("en")} tokens` : "✓"}</small>
        )}
      </p>
      {isOpen && !turn.stopAsked && (
        <Form action={`${path}/stop`}>
          <button class="quiet">Stop</button>
        </Form>
      )}
      {canRetry && (
        <Form action={`${path}/retry`}>
          <button class="quiet">
            {turn.state === "stopped" || turn.state === "unanswered" ? "Go on" : "Try again"}
          </button>
        </Form>
      )}
      {turn.state === "running" && (
        <noscript>
          <p>
            <a href={url(`/chat/${conversationId}`)}>Look again</a> for how far it is.
          </p>
        </noscript>
      )}
    </div>
  );
}
