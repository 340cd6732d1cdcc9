/** How the page looks and follows, as this browser remembers it; and the keys. */
import { Dialog } from "./action.tsx"
import { choices, prefer, type Preferences, usePreference } from "./preferences.ts"

const Choice = (props: { readonly name: keyof Preferences; readonly label: string }) => {
  const value = usePreference(props.name)
  return (
    <p className="row choice">
      <label htmlFor={props.name}>{props.label}</label>
      <select id={props.name} value={value} onChange={(event) => prefer(props.name, event.target.value)}>
        {choices[props.name].map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    </p>
  )
}

export const Settings = (props: {
  readonly pages: ReadonlyArray<{ readonly title: string; readonly key: string }>
  readonly onClose: () => void
}) => (
  <Dialog title="Settings and keys" onClose={props.onClose}>
    <Choice name="theme" label="Colours" />
    <Choice name="times" label="Times" />
    <Choice name="pace" label="Follow what happens" />
    <Choice name="keys" label="Keys" />
    <dl className="keys">
      {[
        ["?", "Settings and keys"],
        ["/", "Filter, or go to"],
        ["Ctrl K", "Go to"],
        ["j k x o", "Next, previous, select, open a job"],
        ["r", "Ask again"],
        ["p", "Follow, or keep what is shown"],
        ["t", "Colours"],
        ["Esc", "Close"],
        ...props.pages.map(({ key, title }) => [`g ${key}`, title])
      ].map(([key, what]) => (
        <div key={key}>
          <dt>
            <kbd>{key}</kbd>
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
  </Dialog>
)
