"""What every other part uses: errors, words to typed values, plugins, runtime, processes, seeds. No torch."""
