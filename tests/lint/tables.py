"""A table, and a helper in another module that writes."""

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]

    async def save(self) -> None: ...


def record_visit(db: Session, name: str) -> None:
    db.add(Item(name=name))
    db.commit()
