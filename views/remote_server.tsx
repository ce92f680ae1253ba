import type { Placement } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { ToolboxChoice } from "./deploy_form.tsx";
import { Form } from "./form.tsx";
import { Field, Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";

export interface RemoteServerProps {
  values: Record<string, string>;
  mistakes: Record<string, string>;
  message?: string;
  idempotencyKey: string;
  toolboxes: Toolbox[];
  placement: Placement;
  /** Why no toolbox takes it now; null when one does. */
  nothingFits: string | null;
}

/** The form that adds a server which runs elsewhere. */
export function RemoteServer(props: RemoteServerProps) {
  const { values, mistakes, message } = props;
  const url = useUrl();
  return (
    <>
      <h1>Add a remote server</h1>
      <p class="lead">
        An MCP server that runs elsewhere, by its URL. A small adapter runs on your toolbox in a
        container that reaches this server's host and nothing else, so its tools are approved,
        called and watched like those of your own servers.
      </p>
      {!props.placement.fits.some((fit) => fit.isChoosable)
        ? (
          <p class="notice bad">
            {props.nothingFits}. <a href={url("/toolboxes")}>See toolboxes</a>.
          </p>
        )
        : (
          <Form
            action={url("/servers/remote")}
            class="card"
            instead="Members of the workspace add servers: ask one of them."
          >
            <Mistake>{message}</Mistake>
            {props.nothingFits && props.nothingFits !== message && (
              <p class="notice">{props.nothingFits}. The server starts once one answers.</p>
            )}
            <input type="hidden" name="idempotencyKey" value={props.idempotencyKey} />
            <Field
              name="url"
              label="URL"
              type="url"
              value={values.url}
              mistake={mistakes.url}
              placeholder="https://mcp.example.com/mcp"
              required
              help="Of its Streamable HTTP or HTTP+SSE endpoint. It is shown on pages: put no key in it."
            />
            <Field
              name="name"
              label="Name"
              value={values.name}
              mistake={mistakes.name}
              help="What you and your agents see. Left empty: the URL's host."
            />
            <Header n={1} name="Authorization" placeholder="Bearer …" {...props} />
            <Header n={2} name="" placeholder="" {...props} />
            <ToolboxChoice {...props} />
            <div class="acts">
              <button>Add</button>
              <button class="quiet" name="account" value="true">Add and sign in</button>
            </div>
            <p class="help">
              Sign in where the server wants an account of yours there (OAuth) and no header.
            </p>
          </Form>
        )}
    </>
  );
}

function Header({ n, name, placeholder, values, mistakes }: {
  n: number;
  name: string;
  placeholder: string;
  values: Record<string, string>;
  mistakes: Record<string, string>;
}) {
  const [nameField, valueField] = [`header.${n}`, `env.HEADER_${n}_VALUE`];
  return (
    <fieldset>
      <legend>{n === 1 ? "Header with a key" : "Another header"}</legend>
      <Field
        name={nameField}
        label="Header"
        value={values[nameField] ?? name}
        mistake={mistakes[nameField]}
        autocomplete="off"
      />
      <Field
        name={valueField}
        label="Value"
        type="password"
        autocomplete="new-password"
        placeholder={placeholder}
        mistake={mistakes[valueField]}
        help="Kept sealed, and given to the adapter alone. Left empty: the header is not sent."
      />
    </fieldset>
  );
}
