import { Connections } from "@sallyport/react/Components"
import { show } from "./page.tsx"

show(({ pair }) => <Connections pair={pair} />)
