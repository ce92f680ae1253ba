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
  const { package: wanted } = server.config.entry;
  const takesOne = wanted.registry === "remote" && wanted.url.startsWith("https:") &&
    server.removedAt === null;
  return (
    <div id="account">
      {takesOne && (
        <section class="card" aria-labelledby="account-title">
          <h2 id="account-title">Account</h2>
          <AccountState authorization={authorization} />
          <AccountActs server={server} authorization={authorization} />
        </section>
      )}
    </div>
  );
}

function AccountState({ authorization }: { authorization: Authorization | null }) {
  if (!authorization) {
    return (
      <p>
        No account is connected. If the server asks for a sign-in (401), connect one: you sign in
        there, and Mooring keeps the sign-in renewed.
      </p>
    );
  }
  const { state, trouble, issuer, scope, wantedScope } = authorization;
  if (state === "waiting") {
    return <p>The server is not run before you connect an account to it.</p>;
  }
  return (
    <>
      {state === "signed_out" && (
        <p class="notice bad">
          Sign in again:{" "}
          {visibleText(trouble ?? "the sign-in has ended")}. Until then the server is not run.
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

function AccountActs({ server, authorization }: {
  server: Server;
  authorization: Authorization | null;
}) {
  const url = useUrl();
  const path = url(`/servers/${server.id}/account`);
  const isFirst = !authorization || authorization.state === "waiting";
  const isUrgent = authorization?.state !== "signed_in" || authorization.wantedScope !== null;
  return (
    <>
      <div class="acts">
        <Form action={path}>
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
            <p>
              Mooring forgets the sign-in, and has it revoked where that is offered. The server runs
              on without it, and may refuse calls.
            </p>
          </Confirm>
        )}
      </div>
      <p class="help">
        Mooring is not known there by itself? <a href={path}>Give a client's id</a>.
      </p>
    </>
  );
}

/** Where signing in leads, before one goes. */
export function SignInPage({ server, url: href, scope }: {
  server: Server;
  url: string;
  scope: string;
}) {
  const host = hostOf(href);
  return (
    <>
      <Crumbs server={server} />
      <h1>Connect an account</h1>
      <p class="lead">
        You sign in at <strong>{visibleText(host)}</strong>, which {visibleText(server.name)}{" "}
        names for it, and come back here. Mooring gets no password: it gets a sign-in for this one
        server, which every agent that is connected to the server then works with.
      </p>
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
export function ClientPage({ server, message, redirectUri, values }: {
  server: Server;
  message?: string;
  redirectUri: string;
  values: Record<string, string>;
}) {
  const url = useUrl();
  return (
    <>
      <Crumbs server={server} />
      <h1>Connect an account</h1>
      <Form action={url(`/servers/${server.id}/account`)} class="card">
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
        <button>Go on</button>
      </Form>
    </>
  );
}

/** Why it came to nothing, and the way back. */
export function SignInFailedPage({ server, message }: { server: Server; message: string }) {
  const url = useUrl();
  return (
    <>
      <Crumbs server={server} />
      <h1>No account was connected</h1>
      <p class="notice bad" role="alert">{visibleText(message)}.</p>
      <div class="acts">
        <Form action={url(`/servers/${server.id}/account`)}>
          <button>Try again</button>
        </Form>
        <a class="button quiet" href={url(`/servers/${server.id}`)}>Back to the server</a>
      </div>
    </>
  );
}

function Crumbs({ server }: { server: Server }) {
  const url = useUrl();
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
