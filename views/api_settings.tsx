import { visibleText } from "./visible_text.ts";
import type { ApiOperationsProps } from "./api_operations.tsx";
import { ToolboxChoice } from "./deploy_form.tsx";
import { Field } from "./parts.tsx";

/** Where a REST API is, how requests prove themselves there, and where its adapter runs. */
export function ApiSettings(props: ApiOperationsProps) {
  const { document, values, mistakes } = props;
  return (
    <>
      <Address {...props} />
      {props.credentials.map(({ scheme, inputs }) => (
        <fieldset>
          <legend>{visibleText(scheme.id)}</legend>
          {scheme.description && <p class="help">{visibleText(scheme.description)}</p>}
          {inputs.map(({ variable, label, description }) => (
            <Secret variable={variable} label={label} help={description} {...props} />
          ))}
        </fieldset>
      ))}
      <details
        class="more"
        open={props.credentials.length === 0 ||
          Object.keys({ ...mistakes }).some((field) => /^own\.|AUTH_OWN/.test(field)) ||
          Boolean(values["own.kind"])}
      >
        <summary>
          {props.credentials.length === 0 ? "Credentials" : "Another way to send credentials"}
        </summary>
        <OwnCredential {...props} />
      </details>
      <p class="help">
        Credentials are kept sealed, and given to the adapter alone, which sends them to this API
        and nowhere else. One that is left empty is not sent; an agent can have its own.
      </p>
      {canBePlain(props) && (
        <Field
          name="consent.plainHttp"
          type="checkbox"
          label="I agree that credentials are sent over http, readable on the way"
          value={values["consent.plainHttp"] ?? "false"}
          mistake={mistakes["consent.plainHttp"]}
        />
      )}
      <Field
        name="name"
        label="Name"
        value={values.name ?? document.title}
        mistake={mistakes.name}
        required
        help="What you and your agents see."
      />
      <ToolboxChoice {...props} />
    </>
  );
}

function canBePlain({ document, values, mistakes }: ApiOperationsProps): boolean {
  return "consent.plainHttp" in mistakes || /^http:/i.test(values.baseUrl ?? "") ||
    document.servers.some(({ url }) => /^http:/i.test(url));
}

/** One of the addresses that the document says, or another one. */
function Address({ document, values, mistakes }: ApiOperationsProps) {
  const { servers } = document;
  const chosen = values.server ?? "0";
  const isOther = servers.length === 0 || chosen === "other";
  return (
    <>
      {servers.length === 0
        ? <input type="hidden" name="server" value="other" />
        : (
          <div class="field">
            <label for="field-server">Address</label>
            <select
              id="field-server"
              name="server"
              aria-invalid={mistakes.server ? "true" : undefined}
              aria-describedby={mistakes.server ? "field-server-mistake" : undefined}
            >
              {servers.map(({ url, description }, index) => (
                <option value={String(index)} selected={chosen === String(index)}>
                  {visibleText(url)}
                  {description && ` (${visibleText(description)})`}
                </option>
              ))}
              <option value="other" selected={isOther}>Another one</option>
            </select>
            {mistakes.server && <p class="mistake" id="field-server-mistake">{mistakes.server}</p>}
          </div>
        )}
      {servers.map(({ variables }, index) =>
        variables.map((variable) => (
          <Field
            name={`variable.${index}.${variable.name}`}
            label={servers.length === 1
              ? `{${visibleText(variable.name)}} of the address`
              : `{${visibleText(variable.name)}} of address ${index + 1}`}
            value={values[`variable.${index}.${variable.name}`] ?? variable.default}
            choices={variable.choices.length > 0 ? variable.choices : undefined}
            help={variable.description && visibleText(variable.description)}
          />
        ))
      )}
      {servers.length === 0
        ? <BaseUrl values={values} mistakes={mistakes} />
        : (
          <details class="more" open={isOther}>
            <summary>Another address</summary>
            <BaseUrl values={values} mistakes={mistakes} />
          </details>
        )}
    </>
  );
}

function BaseUrl({ values, mistakes }: Pick<ApiOperationsProps, "values" | "mistakes">) {
  return (
    <Field
      name="baseUrl"
      label="URL"
      type="url"
      value={values.baseUrl}
      mistake={mistakes.baseUrl}
      placeholder="https://api.example.com/v1"
      help="What the operations' paths are put behind."
    />
  );
}

const OWN_KINDS = [
  ["bearer", "Token in Authorization (Bearer)"],
  ["basic", "User and password (Basic)"],
  ["header", "Key in a header"],
  ["query", "Key in the query"],
];

function OwnCredential(props: ApiOperationsProps) {
  const { values, mistakes } = props;
  const mistake = mistakes["own.kind"];
  return (
    <>
      <div class="field">
        <label for="field-own-kind">How it is sent</label>
        <select
          id="field-own-kind"
          name="own.kind"
          aria-invalid={mistake ? "true" : undefined}
          aria-describedby={mistake ? "field-own-kind-mistake" : undefined}
        >
          <option value="">Not at all</option>
          {OWN_KINDS.map(([kind, name]) => (
            <option value={kind} selected={values["own.kind"] === kind}>{name}</option>
          ))}
        </select>
        {mistake && <p class="mistake" id="field-own-kind-mistake">{mistake}</p>}
      </div>
      <Field
        name="own.name"
        label="Name of the header, or in the query"
        value={values["own.name"]}
        mistake={mistakes["own.name"]}
        placeholder="X-Api-Key"
      />
      <Secret variable="AUTH_OWN" label="Token or key" {...props} />
      <Secret variable="AUTH_OWN_USER" label="User (Basic)" {...props} />
      <Secret variable="AUTH_OWN_PASSWORD" label="Password (Basic)" {...props} />
    </>
  );
}

function Secret({ variable, label, help, mistakes }: {
  variable: string;
  label: string;
  help?: string;
  mistakes: Record<string, string>;
}) {
  return (
    <Field
      name={`env.${variable}`}
      label={label}
      type="password"
      autocomplete="new-password"
      mistake={mistakes[`env.${variable}`]}
      help={help}
    />
  );
}
