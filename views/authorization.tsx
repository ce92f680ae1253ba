import type { Child } from "hono/jsx";
import type { Authorization } from "../models/authorizations.ts";
import type { Server } from "../models/servers.ts";
import { Form } from "./form.tsx";
import { Confirm, Field, Mistake, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** The account that a remote server is called with; follows changes live. Nothing for other servers. */
export function ServerAccount({ server, authorization }: {
  server: Server;
  authorization: Authorization | null;
}) {
  return (
    <div id="account">
      {takesAccount(server) && (
        <section class="card" aria-labelledby="account-title">
          <h2 id="account-title">Account</h2>
          {!authorization
            ? (
              <p>
                No account is connected. If the server asks for a sign-in (401), connect one: you
                sign in there, and Mooring keeps the sign-in renewed.
              </p>
            )
            : authorization.state === "waiting"
            ? <p>The server is not run before you connect an account to it.</p>
            : <AccountState authorization={authorization} without="the server is not run" />}
          <AccountActs server={server} agent={null} authorization={authorization}>
            The server runs on without it, and may refuse calls.
          </AccountActs>
        </section>
      )}
    </div>
  );
}

/** The account that a remote server is called with for one agent. Nothing for other servers. */
export function AgentAccount({ server, agent, authorization, hasInstances }: AccountProps & {
  agent: { id: string; name: string };
  authorization: Authorization | null;
}) {
  if (!takesAccount(server)) return null;
  const name = visibleText(agent.name);
  return (
    <section class="card" id="account" aria-labelledby="account-title">
      <h2 id="account-title">Account of its own</h2>
      {authorization
        ? <AccountState authorization={authorization} without={`${name} gets no answers from it`} />
        : (
          <p>
            {name}{" "}
            is served with the server's own account, as all agents are that have none. Sign in for
            it, and its calls alone are made with that account, by an instance of the server that is
            its own.
          </p>
        )}
      <AccountActs {...{ server, agent, authorization, hasInstances }}>
        From then on {name} is served with the server's own account again.
      </AccountActs>
    </section>
  );
}

function takesAccount({ config, removedAt }: Server): boolean {
  const { package: wanted } = config.entry;
  return wanted.registry === "remote" && wanted.url.startsWith("https:") && removedAt === null;
}

/** @param props.without what is so until the person has signed in again */
function AccountState({ authorization, without }: {
  authorization: Authorization;
  without: string;
}) {
  const { state, trouble, issuer, scope, wantedScope } = authorization;
  return (
    <>
      {state === "signed_out" && (
        <p class="notice bad">
          Sign in again: {visibleText(trouble ?? "the sign-in has ended")}. Until then {without}.
        </p>
      )}
      {state === "signed_in" && trouble && (
        <p class="notice">
          The sign-in could not be renewed, which is tried again: {visibleText(trouble)}.
        </p>
      )}
      {wantedScope && (
        <p class="notice">
          The server refused a call for want of more rights:{" "}
          <code>{visibleText(wantedScope)}</code>. Sign in again to give them.
        </p>
      )}
      <dl class="facts">
        <dt>Signed in at</dt>
        <dd>{visibleText(hostOf(issuer))}</dd>
        {authorization.signedInAt && (
          <>
            <dt>By</dt>
            <dd>
              {authorization.signedInByName ?? "someone who left"},{" "}
              <Time at={authorization.signedInAt} relative />
            </dd>
          </>
        )}
        {scope && (
          <>
            <dt>Rights</dt>
            <dd>
              <code>{visibleText(scope)}</code>
            </dd>
          </>
        )}
        {authorization.renewedAt && (
          <>
            <dt>Renewed</dt>
            <dd>
              <Time at={authorization.renewedAt} relative />
            </dd>
          </>
        )}
      </dl>
    </>
  );
}

function AccountActs({ authorization, children, ...of }: AccountProps & {
  authorization: Authorization | null;
  /** What is so once it is disconnected. */
  children: Child;
}) {
  const url = useUrl();
  const path = url(`${pageOf(of)}/account`);
  const isFirst = !authorization || authorization.state === "waiting";
  const isUrgent = authorization?.state !== "signed_in" || authorization.wantedScope !== null;
  return (
    <>
      <div class="acts">
        <Form action={path}>
          <Instances {...of} />
          <button class={isUrgent ? undefined : "quiet"}>
            {isFirst ? "Connect an account" : "Sign in again"}
          </button>
        </Form>
        {authorization?.state === "waiting" && (
          <Form action={`${path}/disconnect`}>
            <button class="quiet">Run it without one</button>
          </Form>
        )}
        {authorization && !isFirst && (
          <Confirm
            label="Disconnect"
            title="Disconnect the account?"
            action={`${path}/disconnect`}
          >
            <p>Mooring forgets the sign-in, and has it revoked where that is offered. {children}</p>
          </Confirm>
        )}
      </div>
      <p class="help">
        Mooring is not known there by itself? <a href={path}>Give a client's id</a>.
      </p>
    </>
  );
}

/** Whose account it is. */
export interface AccountProps {
  server: Server;
  /** Null: the server's own, for all agents. */
  agent: { id: string; name: string } | null;
  /** The server has an instance for each agent, as an account of one's own needs. */
  hasInstances?: boolean;
}

function pageOf({ server, agent }: AccountProps): string {
  return agent ? `/agents/${agent.id}/connections/${server.id}` : `/servers/${server.id}`;
}

/** Where signing in leads, before one goes. */
export function SignInPage({ server, agent, url: href, scope }: AccountProps & {
  url: string;
  scope: string;
}) {
  const host = hostOf(href);
  return (
    <>
      <Crumbs server={server} agent={agent} />
      <h1>Connect an account</h1>
      <p class="lead">
        You sign in at <strong>{visibleText(host)}</strong>, which {visibleText(server.name)}{" "}
        names for it, and come back here. Mooring gets no password: it gets a sign-in for this one
        server, which {agent
          ? `${visibleText(agent.name)} alone then works with`
          : "every agent that is connected to the server then works with"}.
      </p>
      {agent && (
        <p>
          You may be signed in there already, with another account than the one that the agent is to
          have: sign out there first, then.
        </p>
      )}
      {scope && (
        <p>
          It asks for these rights: <code>{visibleText(scope)}</code>
        </p>
      )}
      <p>
        <a class="button" href={href} rel="noreferrer">Continue to {visibleText(host)}</a>
      </p>
      <p class="help">Within ten minutes, in this browser.</p>
    </>
  );
}

/** For authorization servers that take no clients by themselves. */
export function ClientPage({ message, redirectUri, values, ...of }: AccountProps & {
  message?: string;
  redirectUri: string;
  values: Record<string, string>;
}) {
  const url = useUrl();
  return (
    <>
      <Crumbs {...of} />
      <h1>Connect an account</h1>
      <Form action={url(`${pageOf(of)}/account`)} class="card">
        <Mistake>{message && visibleText(message)}</Mistake>
        <p>
          Where its authorization server does not take Mooring by itself, register a client there by
          hand, with this as its redirect URI: <code>{redirectUri}</code>
        </p>
        <Field
          name="clientId"
          label="Client id"
          value={values.clientId}
          required
          autocomplete="off"
        />
        <Field
          name="clientSecret"
          label="Client secret"
          type="password"
          autocomplete="new-password"
          help="Kept sealed. Left empty for a public client, which has none."
        />
        <Instances {...of} isAgreed={values.instancePerAgent === "true"} />
        <button>Go on</button>
      </Form>
    </>
  );
}

/** Why it came to nothing, and the way back. */
export function SignInFailedPage({ message, mayRetry = true, ...of }: AccountProps & {
  message: string;
  mayRetry?: boolean;
}) {
  const url = useUrl();
  return (
    <>
      <Crumbs {...of} />
      <h1>No account was connected</h1>
      <p class="notice bad" role="alert">{visibleText(message)}.</p>
      <div class="acts">
        {mayRetry && (
          <Form action={url(`${pageOf(of)}/account`)}>
            <Instances {...of} isAgreed />
            <button>Try again</button>
          </Form>
        )}
        <a class="button quiet" href={url(pageOf(of))}>
          {of.agent ? "Back to the agent's page of it" : "Back to the server"}
        </a>
      </div>
    </>
  );
}

/** Asks for an instance for each agent, where an account of an agent's own needs it. */
function Instances({ agent, hasInstances, isAgreed = false }: AccountProps & {
  /** That was said on the page before. */
  isAgreed?: boolean;
}) {
  if (!agent || hasInstances) return null;
  if (isAgreed) return <input type="hidden" name="instancePerAgent" value="true" />;
  return (
    <Field
      name="instancePerAgent"
      id="account-instances"
      label="Run an instance of the server for each agent"
      type="checkbox"
      required
      help="It runs one for all agents now, which has one account. Each instance takes memory of its own."
    />
  );
}

function Crumbs({ server, agent }: AccountProps) {
  const url = useUrl();
  if (agent) {
    return (
      <p class="crumbs">
        <a href={url("/agents")}>Agents</a> / <a href={url(`/agents/${agent.id}`)}>{agent.name}</a>
        {" "}
        / <a href={url(pageOf({ server, agent }))}>{server.name}</a>
      </p>
    );
  }
  return (
    <p class="crumbs">
      <a href={url("/servers")}>Servers</a> /{" "}
      <a href={url(`/servers/${server.id}`)}>{server.name}</a>
    </p>
  );
}

function hostOf(address: string | null): string {
  return address !== null && URL.canParse(address) ? new URL(address).host : "";
}
