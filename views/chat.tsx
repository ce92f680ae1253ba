import type { Child } from "hono/jsx";
import type { Agent } from "../models/agents.ts";
import type { ChatModel } from "../models/chat_models.ts";
import type { Conversation, Turn } from "../models/conversations.ts";
import type { Workspace } from "../models/workspaces.ts";
import { type Attachables, AttachFields } from "./chat_attach.tsx";
import { ChatTurn, openQuestions } from "./chat_turn.tsx";
import { Form } from "./form.tsx";
import { Confirm, Empty, Mistake, Time } from "./parts.tsx";
import { type AskedQuestion, QuestionForm } from "./question.tsx";
import { reaches } from "./role.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ChatHomeProps {
  workspace: Workspace;
  model: ChatModel | null;
  agents: Agent[];
  conversations: Conversation[];
  /** What was typed. */
  text?: string;
  agentId?: string;
  mistakes?: Record<string, string>;
}

/** Conversations so far, and the beginning of another one. */
export function ChatHome(props: ChatHomeProps) {
  const { workspace, model, agents, conversations } = props;
  const url = useUrl();
  const mayTalk = reaches(workspace.role, "member");
  return (
    <>
      <h1>Chat</h1>
      <p class="lead">
        Talk to your agents. They find their tools by themselves and call them here, where you see
        each call.
      </p>
      {!mayTalk
        ? (
          <Empty title="You are a viewer here">
            <p>
              Members of the workspace talk to its agents, since what an agent calls may change
              things.
            </p>
          </Empty>
        )
        : !model
        ? <NoModel workspace={workspace} />
        : agents.length === 0
        ? (
          <Empty title="No agent to talk to yet">
            <p>
              <a href={url("/agents")}>Create an agent</a>{" "}
              and connect it to a server: it talks here with that server's tools.
            </p>
          </Empty>
        )
        : <NewConversation {...props} />}
      {conversations.length > 0 && (
        <section class="card" aria-labelledby="conversations">
          <h2 id="conversations">Your conversations</h2>
          <p class="help">Nobody else sees them.</p>
          <ul class="rows">
            {conversations.map(({ id, title, agentName, updatedAt }) => (
              <li>
                <a href={url(`/chat/${id}`)}>{visibleText(title)}</a>
                <small>
                  {agentName === null ? "its agent is removed" : visibleText(agentName)},{" "}
                  <Time at={updatedAt} relative />
                </small>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function NoModel({ workspace }: { workspace: Workspace }) {
  const url = useUrl();
  return (
    <Empty title="No model yet">
      {reaches(workspace.role, "admin")
        ? (
          <p>
            Say which model the workspace talks with, at{" "}
            <a href={url("/workspace#chat-model")}>Model</a>{" "}
            on the workspace's page: any server that speaks OpenAI's or Anthropic's API.
          </p>
        )
        : <p>An owner or admin of the workspace has to name one on the workspace's page first.</p>}
    </Empty>
  );
}

function NewConversation({ agents, text, agentId, mistakes = {} }: ChatHomeProps) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="new-conversation">
      <h2 id="new-conversation">New conversation</h2>
      <Form action={url("/chat")} class="composer">
        <div class="field">
          <label for="agent">Agent</label>
          <select id="agent" name="agentId">
            {agents.map((agent) => (
              <option value={agent.id} selected={agent.id === agentId}>
                {visibleText(agent.name)}
              </option>
            ))}
          </select>
        </div>
        <Message text={text} mistake={mistakes.text} />
        <p class="acts">
          <button>Send</button>
          <Keys />
        </p>
      </Form>
    </section>
  );
}

export interface ConversationProps {
  conversation: Conversation & { turns: Turn[] };
  model: ChatModel | null;
  workspace: Workspace;
  /** What servers ask just now. */
  questions: AskedQuestion[];
  /** What may be attached, once it was asked for. */
  attachables?: Attachables | null;
  /** What was typed. */
  form?: Record<string, string>;
  mistakes?: Record<string, string>;
  mistake?: string;
}

/** One conversation: all that was said, kept true while an answer comes, and room for more. */
export function ConversationPage(props: ConversationProps) {
  const { conversation, model, workspace, questions, mistakes = {} } = props;
  const { id, title, agentId, agentName, turns } = conversation;
  const url = useUrl();
  const path = url(`/chat/${id}`);
  const last = turns.at(-1);
  return (
    <div class="conversation" data-follow-page>
      <p class="crumbs">
        <a href={url("/chat")}>Chat</a> / {agentId
          ? <a href={url(`/agents/${agentId}`)}>{visibleText(agentName!)}</a>
          : "an agent that is removed"}
      </p>
      {last && (
        <div
          hx-sse:connect={`${path}/live?turn=${last.id}&questions=${questionIds(last)}`}
          hx-swap="none"
        >
        </div>
      )}
      <div class="head">
        <h1>{visibleText(title)}</h1>
        <div class="acts">
          <Rename path={path} title={title} mistake={mistakes.title} />
          <Confirm label="Delete" title="Delete this conversation?" action={`${path}/delete`}>
            <p>
              All that was said goes, with the answers of tools that are kept with it. An answer
              that is under way is stopped. What tools did stays done, and the calls stay in the
              log.
            </p>
          </Confirm>
        </div>
      </div>
      {turns.map((turn) => (
        <ChatTurn
          conversationId={id}
          turn={turn}
          agentName={agentName ?? "Agent"}
        />
      ))}
      <p class="hidden" role="status" id="heard"></p>
      {last && <ChatQuestions conversationId={id} turn={last} questions={questions} />}
      {!agentId
        ? <p class="notice">Its agent is removed, so nothing more can be said here.</p>
        : !model
        ? <NoModel workspace={workspace} />
        : <Composer {...props} path={path} />}
    </div>
  );
}

/** By what a page says which questions it shows. */
export function questionIds(turn: Turn): string {
  return openQuestions(turn).map(({ id }) => id).join(",");
}

/**
 * What servers ask in the last turn, below it and not in it: the turn is shown anew with each word that comes,
 * and what is being typed shall stay.
 */
export function ChatQuestions({ conversationId, turn, questions }: {
  conversationId: string;
  turn: Turn;
  questions: AskedQuestion[];
}) {
  return (
    <div id="questions">
      {openQuestions(turn).map(({ id, serverName, tool, expiresAt }) => {
        const asked = questions.find(({ question }) => question.id === id);
        return asked && (
          <QuestionForm
            asked={asked}
            asker={serverName ?? "A server of the agent's"}
            about={tool}
            until={expiresAt}
            action={`/chat/${conversationId}/questions/${id}`}
            target="#questions"
          />
        );
      })}
    </div>
  );
}

function Composer(
  { conversation, path, form = {}, attachables, mistakes = {}, mistake }: ConversationProps & {
    path: string;
  },
) {
  return (
    <Form action={`${path}/messages`} class="composer card" id="composer">
      <Mistake>{mistake}</Mistake>
      <Message text={form.text} mistake={mistakes.text} />
      {conversation.turns.at(-1)?.state === "waiting" && (
        <p class="help">Sending goes on without what waits for you above.</p>
      )}
      {attachables && <AttachFields attachables={attachables} form={form} mistakes={mistakes} />}
      <p class="acts">
        <button>Send</button>
        {!attachables && (
          <button class="quiet" name="act" value="attach" formnovalidate>
            Attach…
          </button>
        )}
        <Keys />
      </p>
    </Form>
  );
}

/** What static/app.js makes of the keyboard, where there is one. */
function Keys() {
  return <small class="keys needs-script" hidden>Enter sends, Shift+Enter begins a line.</small>;
}

function Message({ text, mistake }: { text?: string; mistake?: string }) {
  return (
    <div class="field">
      <label for="text">Message</label>
      <textarea
        id="text"
        name="text"
        rows={3}
        required
        data-enter-sends
        aria-invalid={mistake ? "true" : undefined}
        aria-describedby={mistake ? "text-mistake" : undefined}
      >
        {text?.startsWith("\n") && "\n"}
        {text}
      </textarea>
      {mistake && <p class="mistake" id="text-mistake">{mistake}</p>}
    </div>
  );
}

function Rename(
  { path, title, mistake }: { path: string; title: string; mistake?: string },
): Child {
  return (
    <details class="confirm" open={mistake !== undefined}>
      <summary class="button quiet">Rename</summary>
      <Form action={`${path}/rename`}>
        <div class="field">
          <label for="title">Title</label>
          <input
            id="title"
            name="title"
            value={title}
            required
            maxlength={200}
            autocomplete="off"
            aria-invalid={mistake ? "true" : undefined}
            aria-describedby={mistake ? "title-mistake" : undefined}
          />
          {mistake && <p class="mistake" id="title-mistake">{mistake}</p>}
        </div>
        <button>Rename</button>
      </Form>
    </details>
  );
}
