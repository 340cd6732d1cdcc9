/** The claimer's gate: shut, except while a test has work done. */

/** Makes a gate that is shut. */
export const make = () => {
  const callbacks: Array<() => void> = []
  let isOpen = false
  return {
    isOpen: () => isOpen,
    onOpen: (callback: () => void) => {
      callbacks.push(callback)
    },
    open: () => {
      isOpen = true
      for (const callback of callbacks) callback()
    },
    close: () => {
      isOpen = false
    }
  }
}
