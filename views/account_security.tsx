import type { Passkey, SecondFactor as Made, Session } from "../models/identity.ts";
import type { StandingAccess } from "../models/standing_access.ts";
import { AccountPages } from "./account.tsx";
import { Form } from "./form.tsx";
import { Confirm, Copy, count, Field, Mistake, Time } from "./parts.tsx";
import { PasskeyList } from "./passkeys.tsx";
import { QrCode } from "./qr_code.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface SecurityProps {
  /** Null where they are not to be had; signing out everywhere is. */
  sessions: Session[] | null;
  /** What acts for the person without their signing in. */
  standing: StandingAccess;
  offersPasskeys: boolean;
  /** Null where this address can have none. */
  passkeys: Passkey[] | null;
  /** Where the app is reached. */
  baseUrl: string;
  /** Null where there is none to be had. */
  hasSecondFactor: boolean | null;
  /** Where there are none, whoever has the Supabase project is the way back in. */
  hasBackupCodes: boolean;
  /** A key made just now: the one time it is shown. */
  secondFactor?: Made;
  /** Made anew just now, and shown this once. */
  backupCodes?: string[];
  mistakes?: Record<string, string>;
}

/** How a person signs in, and where they are. */
export function Security(props: SecurityProps) {
  return (
    <AccountPages at="/account/security">
      <div class="columns">
        {(props.offersPasskeys || props.hasSecondFactor !== null) && (
          <div>
            {props.offersPasskeys && <PasskeyList {...props} />}
            {props.hasSecondFactor !== null && <SecondFactor {...props} />}
          </div>
        )}
        <div>
          <Password mistakes={props.mistakes} />
          <Sessions sessions={props.sessions} />
          <Standing standing={props.standing} />
        </div>
      </div>
    </AccountPages>
  );
}

function Password({ mistakes = {} }: Pick<SecurityProps, "mistakes">) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="account-password">
      <h2 id="account-password">Password</h2>
      <Form action={url("/account/password")}>
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
      </Form>
    </section>
  );
}

function Sessions({ sessions }: Pick<SecurityProps, "sessions">) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="sessions">
      <h2 id="sessions">Where you are signed in</h2>
      {sessions === null
        ? (
          <p class="help">
            Supabase keeps your sessions, and does not tell which browsers they are of.
          </p>
        )
        : (
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
                  <Form action={url(`/account/sessions/${session.id}/end`)} class="inline">
                    <button
                      class="quiet"
                      aria-label={`Sign out of ${deviceOf(session.userAgent)}`}
                    >
                      Sign out
                    </button>
                  </Form>
                )}
              </li>
            ))}
          </ul>
        )}
      <Confirm
        label="Sign out everywhere"
        title="Sign out everywhere?"
        action={url("/account/sessions/end")}
      >
        <p>Here too. Access tokens, clients that you let in and agents' tokens go on working.</p>
      </Confirm>
    </section>
  );
}

function Standing({ standing: { tokens, clients } }: Pick<SecurityProps, "standing">) {
  const url = useUrl();
  if (tokens + clients === 0) return null;
  return (
    <section class="card" aria-labelledby="standing-access">
      <h2 id="standing-access">What acts for you</h2>
      <p>
        {count(tokens, "access token")} of yours and {count(clients, "client")}{" "}
        that you let in work without your signing in. A new password does not end them.
      </p>
      <p class="help">
        Tokens stand on <a href={url("/account/tokens")}>Access tokens</a>{" "}
        in their workspace, clients on the pages of the <a href={url("/agents")}>agents</a>{" "}
        that they are.
      </p>
      <Confirm
        label="End all of them"
        title="End all of them, in all your workspaces?"
        action={url("/account/access/end")}
      >
        <p>
          What works with them stops at once, and takes another token, or connects anew. Tokens that
          an agent has of its own go on working, and so does an agent that you let manage Mooring.
        </p>
      </Confirm>
    </section>
  );
}

/** Codes of an authenticator app, asked for beside the password. */
function SecondFactor(props: SecurityProps) {
  const { hasSecondFactor, secondFactor, mistakes = {} } = props;
  return (
    <section class="card" aria-labelledby="second-factor">
      <h2 id="second-factor">Second factor</h2>
      {secondFactor
        ? <NewKey {...secondFactor} />
        : mistakes.code
        ? <TurnOn mistake={mistakes.code} />
        : hasSecondFactor
        ? <TurnedOn {...props} />
        : <SetUp mistake={mistakes.password} />}
    </section>
  );
}

function SetUp({ mistake }: { mistake?: string }) {
  const url = useUrl();
  return (
    <Form action={url("/account/second-factor")}>
      <p>
        Off. With it the password alone signs nobody in: a code of an authenticator app on your
        phone is asked for as well.
      </p>
      <YourPassword mistake={mistake} />
      <button>Set it up</button>
    </Form>
  );
}

function NewKey({ uri, key, backupCodes }: Made) {
  return (
    <>
      <p>
        Scan this with your authenticator app, or <a href={uri}>open it there</a>:
      </p>
      <p>
        <QrCode text={uri} label="The key as a QR code; it stands as text below" />
      </p>
      <p>Or type the key, as one with codes by time:</p>
      <Copy id="second-factor-key" text={key} label="the key" />
      {backupCodes.length > 0 ? <BackupCodes codes={backupCodes} /> : <NoBackupCodes />}
      <TurnOn />
    </>
  );
}

function BackupCodes({ codes }: { codes: string[] }) {
  const text = codes.join("\n");
  return (
    <>
      <p>
        <strong>Keep these codes</strong>{" "}
        for when the app is lost. Each signs you in once; they are shown this once.
      </p>
      <Copy id="backup-codes" text={text} label="the backup codes" />
      <p>
        <a
          class="button quiet"
          download="mooring-backup-codes.txt"
          href={`data:text/plain;charset=utf-8,${encodeURIComponent(`${text}\n`)}`}
        >
          Download them
        </a>
      </p>
    </>
  );
}

function NoBackupCodes() {
  return (
    <p class="help">
      There are no backup codes: keep the key where you find it when the app is lost. Else somebody
      with the Supabase project removes the factor in its dashboard, under Authentication.
    </p>
  );
}

function TurnOn({ mistake }: { mistake?: string }) {
  const url = useUrl();
  return (
    <Form action={url("/account/second-factor/on")}>
      <Field
        name="code"
        label="Code of now"
        required
        autocomplete="one-time-code"
        mistake={mistake}
        help="The six digits that the app shows. Only then is it asked for."
      />
      <button>Turn it on</button>
    </Form>
  );
}

function TurnedOn({ hasBackupCodes, backupCodes, mistakes = {} }: SecurityProps) {
  const url = useUrl();
  return (
    <>
      <p>On: signing in asks for a code of your authenticator app as well.</p>
      {backupCodes && (
        <div class="notice good" role="alert">
          <p>These are your backup codes now. Those before serve no more.</p>
          <BackupCodes codes={backupCodes} />
        </div>
      )}
      <Mistake>{mistakes.password}</Mistake>
      <div class="acts">
        {hasBackupCodes && (
          <Confirm
            label="Make new backup codes"
            title="Make new backup codes?"
            action={url("/account/second-factor/codes")}
            isOpen={mistakes.codes !== undefined}
          >
            <p>Those that you have serve no more from then on.</p>
            <YourPassword of="codes" mistake={mistakes.codes} />
          </Confirm>
        )}
        <Confirm
          label="Turn it off"
          title="Turn the second factor off?"
          action={url("/account/second-factor/off")}
          isOpen={mistakes.off !== undefined}
        >
          <p>
            {hasBackupCodes
              ? "Your password alone signs in then. The key and the backup codes serve no more."
              : "Your password alone signs in then, at every app of this Supabase project. All second factors of your account are removed from it."}
          </p>
          <YourPassword of="off" mistake={mistakes.off} />
        </Confirm>
      </div>
    </>
  );
}

/** @param of tells fields of several forms on one page apart */
export function YourPassword({ of = "password", mistake }: { of?: string; mistake?: string }) {
  return (
    <Field
      name={of}
      label="Your password"
      type="password"
      required
      autocomplete="current-password"
      mistake={mistake}
    />
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
