"""HTML pages: templates, number formats, and the glossary."""
