import { DeviceRequest } from "@sallyport/react/Components"
import { show } from "./page.tsx"

show(({ connections, pair }) => <DeviceRequest connections={connections} pair={pair} />)
