"""The web pages of the attendance example; ``app.create_app`` puts them together."""
