import { Connections } from "@sallyport/react/Components"
import { show } from "./page.tsx"

show("connections", () => <Connections />)
