import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Completions from "effect/cli/Completions"
import * as Console from "effect/Console"

/** Makes the command that prints what completes the whole command, itself included, in a shell. */
export const completionsOf = (command: () => Command.Command.Any) =>
  Command.make(
    "completions",
    { shell: Argument.Literals("shell", ["bash", "zsh", "fish", "powershell"]) },
    ({ shell }) =>
      Console.log(
        Completions.generate("sallyport", shell, Completions.fromCommand(command()))
          // The script says how to install it by a flag that is a command here.
          .replaceAll("sallyport --completions", "sallyport completions")
      )
  ).pipe(
    Command.withDescription("Print the completions for a shell"),
    Command.withExamples([
      { command: "sallyport completions bash >> ~/.bashrc", description: "In bash" },
      {
        command: "sallyport completions zsh > ~/.zfunc/_sallyport",
        description: "In zsh, if ~/.zfunc is in the fpath"
      },
      {
        command: "sallyport completions fish > ~/.config/fish/completions/sallyport.fish",
        description: "In fish"
      }
    ])
  )
