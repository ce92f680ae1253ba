import type { PersonalToken, Scope } from "../models/personal_tokens.ts";
import type { Workspace } from "../models/workspaces.ts";
import { AccountPages } from "./account.tsx";
import { Form } from "./form.tsx";
import { Copy, Field } from "./parts.tsx";
import { TokenRow } from "./token_row.tsx";
import { useUrl } from "./url.ts";

export interface AccountTokensProps {
  workspace: Workspace;
  tokens: PersonalToken[];
  /** What each scope lets a token do. */
  scopes: Record<Scope, string>;
  baseUrl: string;
  /** Shown this once. */
  newToken?: string;
  /** What was typed, where it did not hold. */
  values?: { name: string; scopes: string[]; expiresInDays: string };
  mistakes?: Record<string, string>;
}

/** A person's tokens for programs. */
export function AccountTokens(props: AccountTokensProps) {
  return (
    <AccountPages at="/account/tokens">
      <Tokens {...props} />
    </AccountPages>
  );
}

function Tokens({ workspace, tokens, newToken, baseUrl, ...form }: AccountTokensProps) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="tokens">
      <h2 id="tokens">Personal access tokens</h2>
      <p>
        With a token a program acts as you, in {workspace.name} alone, through{" "}
        <a href={url("/api")}>the API</a>{" "}
        and its command line. Agents that call tools have tokens of their own, on their pages.
      </p>
      {newToken && (
        <div class="notice good" role="alert">
          <p>
            <strong>Copy the token now.</strong> It is shown this once; only its hash is kept.
          </p>
          <Copy id="new-token" text={newToken} label="the token" />
          <p>On a command line:</p>
          <Copy
            id="try-token"
            text={`curl -H "Authorization: Bearer ${newToken}" ${baseUrl}/api/v1/me`}
            label="the command"
          />
        </div>
      )}
      {tokens.length === 0
        ? <p class="help">You have none yet. Make one below for what is to act as you.</p>
        : (
          <ul class="rows">
            {tokens.map((token) => (
              <TokenRow token={token} revoke={url(`/account/tokens/${token.id}/revoke`)}>
                {token.scopes.join(", ")};{" "}
              </TokenRow>
            ))}
          </ul>
        )}
      <NewToken {...form} />
    </section>
  );
}

const EXPIRIES = {
  "7": "in a week",
  "30": "in 30 days",
  "90": "in 90 days",
  "365": "in a year",
  "never": "never",
};

function NewToken(
  { scopes, values = { name: "", scopes: ["read"], expiresInDays: "90" }, mistakes = {} }: Pick<
    AccountTokensProps,
    "scopes" | "values" | "mistakes"
  >,
) {
  const url = useUrl();
  return (
    <Form action={url("/account/tokens")}>
      <h3>Make a token</h3>
      <Field
        name="name"
        label="Name"
        required
        value={values.name}
        mistake={mistakes.name}
        placeholder="deploy script"
        help="What it is for, so that you know later which to revoke."
      />
      <fieldset aria-describedby={mistakes.scopes ? "scopes-mistake" : undefined}>
        <legend>It may</legend>
        {mistakes.scopes && <p class="mistake" id="scopes-mistake">{mistakes.scopes}</p>}
        {Object.entries(scopes).map(([scope, what]) => {
          const id = `scope-${scope.replace(":", "-")}`;
          return (
            <div class="field check">
              <input
                id={id}
                type="checkbox"
                name="scope"
                value={scope}
                checked={values.scopes.includes(scope)}
                aria-describedby={`${id}-help`}
              />
              <label for={id}>
                <code>{scope}</code>
              </label>
              <p class="help" id={`${id}-help`}>{what}</p>
            </div>
          );
        })}
      </fieldset>
      <div class="field">
        <label for="expiresInDays">Expires</label>
        <select id="expiresInDays" name="expiresInDays">
          {Object.entries(EXPIRIES).map(([value, name]) => (
            <option value={value} selected={value === values.expiresInDays}>{name}</option>
          ))}
        </select>
      </div>
      <button>Make the token</button>
    </Form>
  );
}
