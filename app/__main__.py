"""python -m app"""

if __name__ == "__main__":  # worker processes import this file again, and must not run it
    from app.cli.main import app

    app()
