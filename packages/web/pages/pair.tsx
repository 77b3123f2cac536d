import { PairDevice } from "@sallyport/react/Components"
import { show } from "./page.tsx"

show(({ connections, next }) => <PairDevice connections={connections} continueTo={next} />)
