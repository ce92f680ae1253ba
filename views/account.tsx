import type { Person, SecondFactor as Made, Session } from "../models/identity.ts";
import { Confirm, Copy, Field, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface AccountProps {
  person: Person;
  sessions: Session[];
  hasSecondFactor: boolean;
  /** A key made just now: the one time it is shown. */
  secondFactor?: Made;
  /** What was typed, when it did not hold. */
  name?: string;
  mistakes?: Record<string, string>;
}

/** A person's own account. */
export function Account(props: AccountProps) {
  const { person, sessions, name, mistakes = {} } = props;
  const url = useUrl();
  return (
    <>
      <h1>Your account</h1>
      <p class="lead">
        {person.email}. For programs that act as you there are{" "}
        <a href={url("/profile")}>access tokens</a>; which workspaces you are in,{" "}
        <a href={url("/workspaces")}>here</a>.
      </p>
      <div class="columns">
        <div>
          <section class="card" aria-labelledby="account-name">
            <h2 id="account-name">Name</h2>
            <form method="post" action={url("/account/name")} class="inline">
              <Field
                name="name"
                label="Your name"
                required
                autocomplete="name"
                value={name ?? person.name}
                mistake={mistakes.name}
              />
              <button>Save</button>
            </form>
          </section>
          <section class="card" aria-labelledby="account-password">
            <h2 id="account-password">Password</h2>
            <form method="post" action={url("/account/password")}>
              <Field
                name="present"
                label="Present password"
                type="password"
                required
                autocomplete="current-password"
                mistake={mistakes.present}
              />
              <Field
                name="next"
                label="New password"
                type="password"
                required
                minlength={10}
                autocomplete="new-password"
                mistake={mistakes.next}
                help="At least 10 characters. You are signed out everywhere else."
              />
              <button>Change the password</button>
            </form>
          </section>
        </div>
        <div>
          <Sessions sessions={sessions} />
          <SecondFactor {...props} />
        </div>
      </div>
    </>
  );
}

function Sessions({ sessions }: { sessions: Session[] }) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="sessions">
      <h2 id="sessions">Where you are signed in</h2>
      <ul class="rows people">
        {sessions.map((session) => (
          <li>
            <span>
              <strong>{deviceOf(session.userAgent)}</strong> {session.isThis && "(here)"}
              <small>
                {session.clientIp && `from ${visibleText(session.clientIp)}, `}
                since <Time at={session.since} />; ends <Time at={session.expiresAt} />{" "}
                unless you come back
              </small>
            </span>
            {!session.isThis && (
              <form
                method="post"
                action={url(`/account/sessions/${session.id}/end`)}
                class="inline"
              >
                <button
                  class="quiet"
                  aria-label={`Sign out of ${deviceOf(session.userAgent)}`}
                >
                  Sign out
                </button>
              </form>
            )}
          </li>
        ))}
      </ul>
      <Confirm
        label="Sign out everywhere"
        title="Sign out everywhere?"
        action={url("/account/sessions/end")}
      >
        <p>Here too. Access tokens and agents' tokens go on working.</p>
      </Confirm>
    </section>
  );
}

/** Codes of an authenticator app, asked for beside the password. */
function SecondFactor({ hasSecondFactor, secondFactor, mistakes = {} }: AccountProps) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="second-factor">
      <h2 id="second-factor">Second factor</h2>
      {secondFactor
        ? (
          <>
            <p>
              Put this key into your authenticator app, as one with codes by time, or{" "}
              <a href={secondFactor.uri}>open it there</a>:
            </p>
            <Copy id="second-factor-key" text={secondFactor.key} label="the key" />
            <p>Keep these codes for when the app is lost. Each serves once:</p>
            <Copy
              id="backup-codes"
              text={secondFactor.backupCodes.join("\n")}
              label="the backup codes"
            />
            <TurnOn />
          </>
        )
        : mistakes.code
        ? <TurnOn mistake={mistakes.code} />
        : (
          <form
            method="post"
            action={url(`/account/second-factor${hasSecondFactor ? "/off" : ""}`)}
          >
            <p>
              {hasSecondFactor
                ? "On: signing in asks for a code of your authenticator app as well."
                : "Off. With it signing in asks for a code of your authenticator app as well."}
            </p>
            <Field
              name="password"
              label="Your password"
              type="password"
              required
              autocomplete="current-password"
              mistake={mistakes.password}
            />
            {hasSecondFactor
              ? <button class="danger">Turn it off</button>
              : <button>Set it up</button>}
          </form>
        )}
    </section>
  );
}

function TurnOn({ mistake }: { mistake?: string }) {
  const url = useUrl();
  return (
    <form method="post" action={url("/account/second-factor/on")}>
      <Field
        name="code"
        label="Code of now"
        required
        autocomplete="one-time-code"
        mistake={mistake}
        help="The six digits that the app shows. Only then is it asked for."
      />
      <button>Turn it on</button>
    </form>
  );
}

/** A browser and its system as people name them; what is neither is shown as it named itself. */
function deviceOf(userAgent: string): string {
  const browser = /(Edg|OPR|Firefox|Chrome|Safari)\//.exec(userAgent)?.[1];
  const system = /(Android|iPhone|iPad|Windows|Mac OS X|CrOS|Linux)/.exec(userAgent)?.[1];
  if (!browser) {
    return visibleText(userAgent.slice(0, 60)) || "A client that did not say what it is";
  }
  const names: Record<string, string> = { Edg: "Edge", OPR: "Opera" };
  const systems: Record<string, string> = { "Mac OS X": "macOS", CrOS: "ChromeOS" };
  return (names[browser] ?? browser) + (system ? ` on ${systems[system] ?? system}` : "");
}
